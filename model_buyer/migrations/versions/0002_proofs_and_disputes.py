"""The proof of the key, who still validates, and a dispute."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("models", sa.Column("key_proof", sa.LargeBinary(), nullable=True))
    op.add_column("models", sa.Column("validators", sa.JSON(), nullable=True))
    op.add_column("models", sa.Column("claim", sa.LargeBinary(), nullable=True))
    op.add_column("models", sa.Column("dispute", sa.JSON(), nullable=True))


def downgrade() -> None:
    for column in ("dispute", "claim", "validators", "key_proof"):
        op.drop_column("models", column)
