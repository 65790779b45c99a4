"""Who may become a user: apart from the tables of users, since a configuration needs no database."""

from __future__ import annotations

from enum import StrEnum


class Registration(StrEnum):
    """Who may make a user over HTTP without being an operator."""

    FIRST = "first"
    """Whoever comes first, while the service has no user."""
    OPEN = "open"
    """Everybody."""
    CLOSED = "closed"
    """Nobody."""
