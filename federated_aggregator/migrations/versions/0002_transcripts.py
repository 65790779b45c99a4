"""Rounds are in the transcript, which the journal holds; requests are kept as they were signed.

Trainings of the protocol before cannot be gone on with, and their journals are no transcripts: they are dropped.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = ("phases", "offers", "metrics", "trainings", "journal")


def upgrade() -> None:
    for table in TABLES:
        op.execute(f"DELETE FROM {table}")
    with op.batch_alter_table("trainings") as trainings:
        trainings.drop_column("iteration")
        trainings.drop_column("model")


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"DELETE FROM {table}")
    with op.batch_alter_table("trainings") as trainings:
        trainings.add_column(sa.Column("iteration", sa.Integer(), nullable=False, server_default="0"))
        trainings.add_column(sa.Column("model", sa.LargeBinary(), nullable=False, server_default=""))
