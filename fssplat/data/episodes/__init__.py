"""Which images meet? Candidates, training episodes and evaluation manifests."""
