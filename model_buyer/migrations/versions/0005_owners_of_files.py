"""Uploaded files belong to a user."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("files") as files:
        files.add_column(sa.Column("user_id", sa.Uuid(), nullable=True))
        files.create_foreign_key("fk_files_user_id", "users", ["user_id"], ["id"])


def downgrade() -> None:
    with op.batch_alter_table("files") as files:
        files.drop_constraint("fk_files_user_id", type_="foreignkey")
        files.drop_column("user_id")
