"""Least squares on summed statistics, and what each owner contributed to it. Plaintext only, no I/O."""
