"""What users read and send at more than one service."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from commons.protocol.messages import Body

Wei = Annotated[str, Field(pattern="^[0-9]+$")]
"""An amount in wei, in decimal digits: many readers of JSON have floats only."""


class Page(Body):
    """Which part of a list: ``limit`` items after the first ``offset``."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    offset: Annotated[int, Field(ge=0, lt=2**31)] = 0


class Listing(Page):
    """Part of a list that has ``total`` items."""

    total: int


class DisputeDocument(Body):
    """A dispute on chain about the result of a training: who disputes it, why, and what the arbiter decided, if it did.

    ``reason`` is known to the service that disputed only; ``evidence_hash`` is hexadecimal.
    """

    disputer: str
    reason: str | None
    evidence_hash: str
    outcome: str | None
