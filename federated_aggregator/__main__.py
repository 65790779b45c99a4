"""``python -m federated_aggregator``: the aggregator's server."""

from commons.http.server import main
from federated_aggregator.app import create_app
from federated_aggregator.config import Config

main("federated_aggregator", create_app, Config, default_port=8080)
