"""Which cheat an order asks for: every party reads it, and one does it.

The order says ``data_requirements.features.desc = {"cheat": "buyer=false-product"}``. Where the order names no cheat
of its own, a service of this package does what the real one does.
"""

from __future__ import annotations

from commons.protocol.messages import Order


def cheat_in(order: Order) -> str:
    """Return the cheat that an order asks for, as WHO=HOW; empty if it asks for none."""
    described = order.data_requirements.features.desc
    return str(described.get("cheat", "")) if isinstance(described, dict) else ""
