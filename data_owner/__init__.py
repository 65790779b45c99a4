"""The data owner: trains and validates on rows that never leave it."""
