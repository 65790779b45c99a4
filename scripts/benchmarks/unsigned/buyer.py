"""The model buyer without signed requests."""

from commons.http.server import main
from model_buyer.app import create_app
from model_buyer.config import Config
from scripts.benchmarks.unsigned import leave_out

leave_out()
main("model_buyer", create_app, Config, default_port=9090)
