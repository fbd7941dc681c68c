"""Alembic migrations; they only expand, so that old code runs on a new schema."""
