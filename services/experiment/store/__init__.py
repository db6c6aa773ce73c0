"""The registry's store: SQLite embedded or PostgreSQL, by SQLAlchemy; its tables by Alembic."""
