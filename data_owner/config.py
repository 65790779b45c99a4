"""The data owner's configuration."""

from __future__ import annotations

from commons import configuration
from commons.protocol.messages import Url


class Config(configuration.Config):
    """What the data owner needs to know. Each field is the environment variable ``DELTAML_<FIELD>``."""

    aggregator_url: Url = "http://127.0.0.1:8080"
