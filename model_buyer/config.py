"""The model buyer's configuration."""

from __future__ import annotations

from commons import configuration
from commons.protocol.messages import Address, Url


class Config(configuration.Config):
    """What the model buyer needs to know. Each field is the environment variable ``DELTAML_<FIELD>``."""

    arbiter_address: Address
    aggregator_url: Url = "http://127.0.0.1:8080"
