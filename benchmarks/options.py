"""What the person at the terminal asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Of one run."""

    rounds: int = 3
    #: N: tasks of LedgerQ's backlog, from which the others' sizes follow.
    number: int = 100_000
    #: Parts of names; empty: everything.
    only: tuple[str, ...] = ()

    def wants(self, name: str) -> bool:
        """Whether a row was asked for."""
        return not self.only or any(part.lower() in name.lower() for part in self.only)
