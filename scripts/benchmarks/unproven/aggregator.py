"""The aggregator without proofs."""

from commons.http.server import main
from federated_aggregator import evaluations
from federated_aggregator.app import create_app
from federated_aggregator.config import Config
from scripts.benchmarks.unproven import leave_out

leave_out(evaluations)
main("federated_aggregator", create_app, Config, default_port=8080)
