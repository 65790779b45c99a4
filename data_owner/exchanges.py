"""Under which names the owner's journal has the exchanges of a training."""

from __future__ import annotations

from commons.protocol.messages import EvaluationKind

MOMENTS = "moments"
STANDARDISATION = "standardisation"
"""What the aggregator told of the moments of all."""
UPDATE = "update"
LOCAL_MODEL = "local"
METRIC = "metric-"
"""Followed by the kind of evaluation that the metric is of."""

Name = tuple[str, int]
"""Kind and round."""


def score_name(kind: EvaluationKind, round_: int) -> Name:
    """Return the name of an answered evaluation. There is one settlement, after whatever round."""
    return f"score-{kind}", 0 if kind == "settlement" else round_
