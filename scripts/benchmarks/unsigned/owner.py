"""The data owner without signed requests."""

from commons.http.server import main
from data_owner.app import create_app
from data_owner.config import Config
from scripts.benchmarks.unsigned import leave_out

leave_out()
main("data_owner", create_app, Config, default_port=5000)
