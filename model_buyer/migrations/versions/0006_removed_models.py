"""Models that their user has removed; orders are listed by user."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from commons import database

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("models") as models:
        models.add_column(sa.Column("removed", database.Moment(timezone=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("models") as models:
        models.drop_column("removed")
