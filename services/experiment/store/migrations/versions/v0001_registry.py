"""The registry's tables.

They are written out, not taken from ``tables``: a migration stays as it was.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_APPEND_ONLY = "the audit trail is append-only"


def upgrade() -> None:
    """Makes tables and triggers."""
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    registry = op.create_table(
        "registry",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(registry, [{"id": 1, "version": 0}])
    op.create_table(
        "definitions",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("evaluator_version", sa.Integer, nullable=False),
        sa.Column("canonical_json", sa.Text, nullable=False),
        sa.Column("authored_json", sa.Text, nullable=False),
        sa.Column("winner", sa.Text, nullable=False),
        sa.Column("rolled_out", sa.Boolean, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
        sa.Column("started_ms", sa.BigInteger),
        sa.Column("concluded_ms", sa.BigInteger),
    )
    op.create_table(
        "audit",
        sa.Column("number", number, primary_key=True, autoincrement=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False, index=True),
        sa.Column("version_before", sa.BigInteger, nullable=False),
        sa.Column("version_after", sa.BigInteger, nullable=False),
        sa.Column("changed_fields", sa.Text, nullable=False),
        sa.Column("state_before", sa.Text),
        sa.Column("state_after", sa.Text),
        sa.Column("remark", sa.Text, nullable=False),
    )
    op.create_table(
        "reports",
        sa.Column("number", number, primary_key=True, autoincrement=True),
        sa.Column("experiment_key", sa.Text, nullable=False, index=True),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("json", sa.Text, nullable=False),
        sa.Column("html", sa.Text, nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        _guard_in_sqlite()
    else:
        _guard_in_postgresql()


def _guard_in_sqlite() -> None:
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_keeps_on_{change.lower()} BEFORE {change} ON audit "
            f"BEGIN SELECT RAISE(ABORT, '{_APPEND_ONLY}'); END"
        )


def _guard_in_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION audit_keeps() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_APPEND_ONLY}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_keeps_rows BEFORE UPDATE OR DELETE ON audit "
        "FOR EACH ROW EXECUTE FUNCTION audit_keeps()"
    )
    op.execute(
        "CREATE TRIGGER audit_keeps_all BEFORE TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_keeps()"
    )
