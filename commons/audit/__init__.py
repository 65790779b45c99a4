"""Replaying a training's transcript without any secret key: was every step right, and if not, who deviated."""

from commons.audit.findings import Check, Deviation, Party, Report
from commons.audit.replay import audit

__all__ = ["Check", "Deviation", "Party", "Report", "audit"]
