"""Alembic migrations; they only expand, so that old code runs on a new schema."""

from __future__ import annotations

from pathlib import Path


def revisions() -> list[str]:
    """All that this release knows, the oldest first: they are numbered in one sequence."""
    return sorted(path.name[:4] for path in (Path(__file__).parent / "versions").glob("[0-9]*.py"))
