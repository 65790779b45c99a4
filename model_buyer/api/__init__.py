"""The model buyer's JSON routes, by resource."""
