"""The compiled marketplace contract, as it is committed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CONTRACTS = Path(__file__).resolve().parents[2] / "contracts"
ARTEFACT_PATH = CONTRACTS / "Marketplace.json"


def load_artefact() -> dict[str, Any]:
    """Read ``contracts/Marketplace.json``.

    Returns
    -------
    dict
        ``abi`` (list), ``bytecode`` (0x-prefixed hex of the deployment code), ``compiler``, ``sources``.
    """
    artefact: dict[str, Any] = json.loads(ARTEFACT_PATH.read_text(encoding="utf-8"))
    return artefact
