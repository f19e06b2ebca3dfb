"""What does one process do? It claims a job, runs it and stores every result."""
