"""The federated aggregator: orchestrates trainings over ciphertexts it cannot read."""
