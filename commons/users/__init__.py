"""The people who use a buyer's or an owner's service."""
