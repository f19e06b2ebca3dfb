"""How does a batch system run a launch? A script with its options, sent to SLURM."""
