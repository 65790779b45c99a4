"""Measurements of the encrypted arithmetic, and of what its contributions say."""
