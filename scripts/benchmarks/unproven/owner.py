"""The data owner without proofs."""

from commons.http.server import main
from data_owner import answering
from data_owner.app import create_app
from data_owner.config import Config
from scripts.benchmarks.unproven import leave_out

leave_out(answering)
main("data_owner", create_app, Config, default_port=5000)
