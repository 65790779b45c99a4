"""The data owner's JSON routes, by resource."""
