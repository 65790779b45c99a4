"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from commons import database

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "journal",
        sa.Column("training_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("question_digest", sa.LargeBinary(), nullable=False),
        sa.Column("question", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("created", database.Moment(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("training_id", "kind", "round"),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("created", database.Moment(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("email"),
    )
    op.create_table(
        "models",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("order", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=False),
        sa.Column("payment", database.Decimal(), nullable=False),
        sa.Column("terms", sa.JSON(), nullable=False),
        sa.Column("announced", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("weights", sa.JSON(), nullable=True),
        sa.Column("outcome", sa.JSON(), nullable=True),
        sa.Column("payments", sa.JSON(), nullable=True),
        sa.Column("spent", database.Decimal(), nullable=False),
        sa.Column("created", database.Moment(timezone=True), nullable=False),
        sa.Column("updated", database.Moment(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "metrics",
        sa.Column("training_id", sa.Uuid(), nullable=False),
        sa.Column("iteration", sa.Integer(), nullable=False),
        sa.Column("mse", database.Decimal(), nullable=False),
        sa.Column("created", database.Moment(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["training_id"],
            ["models.id"],
        ),
        sa.PrimaryKeyConstraint("training_id", "iteration"),
    )


def downgrade() -> None:
    op.drop_table("metrics")
    op.drop_table("models")
    op.drop_table("users")
    op.drop_table("journal")
