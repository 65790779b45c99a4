"""What a dispute looks like to users of the buyer: who raised it and why, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from commons.chain.marketplace import Payment, PaymentKind, Training

REFUNDED: Final = "refunded"
AS_REPORTED: Final = "settled as reported, the disputer lost its bond"
CORRECTED: Final = "settled by the arbiter's result, the bond was returned"
RETURNED: Final = "settled as reported, the bond was returned"


def document(claimed: dict[str, Any] | None, on_chain: Training) -> dict[str, Any]:
    """Return what is known of the dispute that is on chain.

    Parameters
    ----------
    claimed : dict or None
        What was known before: of this service's own claim, or of the same dispute.
    on_chain : Training
        Disputed, now or before.

    Returns
    -------
    dict
        ``disputer``; ``reason`` and ``evidence_hash``, which are known of this service's own dispute only;
        ``reported``, the digest of the result that was disputed, if it was seen; ``resolution``, once there is one.
    """
    if claimed is not None and claimed["disputer"] in (None, on_chain.disputer):
        return claimed | {"disputer": on_chain.disputer}
    return {"disputer": on_chain.disputer, "reason": None, "evidence_hash": None, "reported": None, "resolution": None}


def resolution(claimed: dict[str, Any] | None, on_chain: Training, payments: Sequence[Payment]) -> str:
    """Say how a dispute ended.

    Parameters
    ----------
    claimed : dict or None
        What was known of it while it lasted.
    on_chain : Training
        Finished.
    payments : sequence of Payment
        What it was settled by: a refund pays no aggregator, and a bond that its disputer did not get back went to
        the arbiter.
    """
    kinds = {payment.kind: payment.recipient for payment in payments}
    if PaymentKind.ORCHESTRATION not in kinds:
        return REFUNDED
    if kinds.get(PaymentKind.BOND) != on_chain.disputer:
        return AS_REPORTED
    reported = document(claimed, on_chain)["reported"]
    return RETURNED if reported in (None, on_chain.digest.hex()) else CORRECTED
