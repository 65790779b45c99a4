"""What was verified, and what is disputed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("trainings", sa.Column("reviewed", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("trainings", sa.Column("claim", sa.LargeBinary(), nullable=True))
    op.add_column("trainings", sa.Column("dispute", sa.JSON(), nullable=True))
    op.add_column("metrics", sa.Column("verified", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("metrics", "verified")
    for column in ("dispute", "claim", "reviewed"):
        op.drop_column("trainings", column)
