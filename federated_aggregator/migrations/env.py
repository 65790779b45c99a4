"""Alembic's entry point for this service's tables."""

# ruff: noqa: F401  (importing the tables puts them into the metadata)
from alembic import context

from commons import journal
from commons.database import Base
from commons.users import storage as users
from federated_aggregator import storage

context.configure(
    connection=context.config.attributes["connection"], target_metadata=[Base.metadata, storage.Base.metadata]
)
with context.begin_transaction():
    context.run_migrations()
