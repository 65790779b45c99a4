"""The services without proofs of products and without the checking of openings: what proving is measured against.

Never run anything but a benchmark like this: who cheats is not found out.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any


class NoProof:
    """Stands for a proof: nothing."""

    @classmethod
    def from_bytes(cls, *_: Any) -> NoProof:
        """Read nothing."""
        return cls()

    def to_bytes(self, *_: Any) -> bytes:
        """Write nothing."""
        return b""


def leave_out(module: ModuleType) -> None:
    """Put nothing in the place of every proof of products and of its check, and of the check of openings."""
    for name in ("prove_products", "verify_products", "verify_openings"):
        if hasattr(module, name):
            setattr(module, name, lambda *_: NoProof())
    if hasattr(module, "ProductProof"):
        vars(module)["ProductProof"] = NoProof
