"""HTTP between users, services and services: bodies, problems, calls to peers, the server process."""
