"""``python -m data_owner``: the data owner's server."""

from commons.http.server import main
from data_owner.app import create_app
from data_owner.config import Config

main("data_owner", create_app, Config, default_port=5000)
