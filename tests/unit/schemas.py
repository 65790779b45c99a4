"""The tables that every service's migrations should make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, Table

import data_owner.app
import data_owner.storage
import federated_aggregator.app
import federated_aggregator.storage
import model_buyer.app
import model_buyer.storage
from commons.database import Database
from commons.http.nonces import LATEST_REQUEST
from commons.journal import JOURNAL
from commons.users.storage import Token, User

USERS = tuple(kind.metadata.tables[kind.__tablename__] for kind in (User, Token))
SHARED = (JOURNAL, LATEST_REQUEST, *USERS)


@dataclass(frozen=True)
class Schema:
    """A service's migrations, and the tables that its code works with."""

    migrations: Path
    own: MetaData
    shared: tuple[Table, ...]

    def differences(self, on: Database) -> list[Any]:
        """Return what Alembic would change to get from a migrated database to the tables of the code."""
        tables = MetaData()
        for table in (*self.shared, *self.own.tables.values()):
            table.to_metadata(tables)
        with on.engine.connect() as connection:
            return compare_metadata(MigrationContext.configure(connection), tables)


SCHEMAS: Mapping[str, Schema] = {
    "data_owner": Schema(data_owner.app.MIGRATIONS, data_owner.storage.Base.metadata, SHARED),
    "federated_aggregator": Schema(
        federated_aggregator.app.MIGRATIONS, federated_aggregator.storage.Base.metadata, SHARED
    ),
    "model_buyer": Schema(model_buyer.app.MIGRATIONS, model_buyer.storage.Base.metadata, SHARED),
}
