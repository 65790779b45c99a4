"""``python -m model_buyer``: the model buyer's server."""

from commons.http.server import main
from model_buyer.app import create_app
from model_buyer.config import Config

main("model_buyer", create_app, Config, default_port=9090)
