"""The aggregator's JSON routes, by resource."""
