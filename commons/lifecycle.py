"""Rows that are there or not, and move along a lifecycle: a table of allowed transitions, one function that moves."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from sqlalchemy.orm import Session

from commons.errors import Conflict, NotFound

Row = TypeVar("Row")
State = TypeVar("State", bound=StrEnum)


class Staged(Protocol):
    """A row with an id and a status."""

    id: Any
    status: Any


def find(session: Session, kind: type[Row], row_id: uuid.UUID) -> Row:
    """Return the row of that id; NotFound if there is none."""
    row = session.get(kind, row_id)
    if row is None:
        raise NotFound(f"there is no {kind.__name__.lower()} {row_id}")
    return row


def move(row: Staged, transitions: Mapping[State, frozenset[State]], to: State) -> None:
    """Move a row along its lifecycle, unless it is there already.

    Parameters
    ----------
    row : Staged
        Where it stands is changed.
    transitions : mapping
        Every status, with those that may follow it.
    to : StrEnum
        Where to.

    Raises
    ------
    Conflict
        The lifecycle has no such step.
    """
    if to != row.status:
        if to not in transitions[type(to)(row.status)]:
            raise Conflict(f"{type(row).__name__.lower()} {row.id} is {row.status}: it cannot become {to}")
        row.status = to
