"""Answers that may be a little old because a replica gave them: they say of what time they are."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

#: A field of a list's wire form.
AsOf = Annotated[
    Annotated[datetime, Meta(tz=True)] | UnsetType,
    Meta(
        description="Only where a replica answers (`DATABASE_REPLICA_URL`): all that was there before this moment is in the "
        "answer, and of what came later perhaps nothing. Left out: the answer is as the ledger was when it was asked.",
    ),
]


def shown(as_of: datetime | None) -> datetime | UnsetType:
    """The value of such a field; None: the primary has answered."""
    return UNSET if as_of is None else as_of
