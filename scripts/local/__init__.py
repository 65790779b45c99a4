"""The whole platform on one machine: its processes, its REST flow, and the demo made of both."""
