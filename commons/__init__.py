"""What at least two of the services need, and nothing else."""
