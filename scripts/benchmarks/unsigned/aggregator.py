"""The aggregator without signed requests."""

from commons.http.server import main
from federated_aggregator.app import create_app
from federated_aggregator.config import Config
from scripts.benchmarks.unsigned import leave_out

leave_out()
main("federated_aggregator", create_app, Config, default_port=8080)
