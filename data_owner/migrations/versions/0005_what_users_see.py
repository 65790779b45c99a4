"""Histograms, what the chain said of trainings, and who knows this owner."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from commons import database

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("datasets", sa.Column("histograms", sa.JSON(), nullable=True))
    op.add_column("trainings", sa.Column("seen", sa.JSON(), nullable=True))
    op.create_table(
        "registrations",
        sa.Column("aggregator_url", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("created", database.Moment(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("aggregator_url"),
    )


def downgrade() -> None:
    op.drop_table("registrations")
    op.drop_column("trainings", "seen")
    op.drop_column("datasets", "histograms")
