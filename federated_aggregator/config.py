"""The federated aggregator's configuration."""

from __future__ import annotations

from pydantic import Field

from commons import configuration


class Config(configuration.Config):
    """What the aggregator needs to know. Each field is the environment variable ``DELTAML_<FIELD>``.

    ``round_timeout_s`` is how long an owner may take to answer, retries included, before a round goes on without it.
    """

    round_timeout_s: float = Field(default=30, gt=0)
