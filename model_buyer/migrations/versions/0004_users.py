"""Passwords, roles, wallets and tokens of users.

Who was there before has no password and becomes a viewer. E-mail addresses are compared without regard to case: of two
that differ in nothing else, the newer user's is put behind its id.
"""

from __future__ import annotations

import unicodedata

import sqlalchemy as sa
from alembic import op

from commons import database

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

USERS = sa.table(
    "users", sa.column("id", sa.Uuid()), sa.column("email", sa.String()), sa.column("created", database.Moment())
)


def upgrade() -> None:
    op.add_column("users", sa.Column("password_hash", sa.String(), nullable=True))
    op.add_column("users", sa.Column("role", sa.String(), nullable=False, server_default="viewer"))
    op.add_column("users", sa.Column("disabled", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("users", sa.Column("wallet", sa.String(), nullable=True))
    op.create_index("ix_users_wallet", "users", ["wallet"], unique=True)
    op.create_table(
        "tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("created", database.Moment(timezone=True), nullable=False),
        sa.Column("expires", database.Moment(timezone=True), nullable=False),
        sa.Column("used", database.Moment(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_index("ix_tokens_user_id", "tokens", ["user_id"])
    _fold_emails()


def downgrade() -> None:
    op.drop_table("tokens")
    op.drop_index("ix_users_wallet", "users")
    for column in ("wallet", "disabled", "role", "password_hash"):
        op.drop_column("users", column)


def _fold_emails() -> None:
    connection = op.get_bind()
    rows = connection.execute(sa.select(USERS.c.id, USERS.c.email).order_by(USERS.c.created, USERS.c.id)).all()
    folded: dict[str, object] = {}
    for user_id, email in rows:
        wanted = unicodedata.normalize("NFKC", email).casefold()
        folded[f"{user_id}+{wanted}" if wanted in folded else wanted] = user_id
    # In two steps, so that no address is that of two users in between.
    for email, user_id in folded.items():
        connection.execute(USERS.update().where(USERS.c.id == user_id).values(email=f"{user_id} {email}"))
    for email, user_id in folded.items():
        connection.execute(USERS.update().where(USERS.c.id == user_id).values(email=email))
