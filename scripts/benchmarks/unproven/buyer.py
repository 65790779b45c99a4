"""The model buyer without proofs."""

from commons.http.server import main
from model_buyer import answering
from model_buyer.app import create_app
from model_buyer.config import Config
from scripts.benchmarks.unproven import leave_out

leave_out(answering)
main("model_buyer", create_app, Config, default_port=9090)
