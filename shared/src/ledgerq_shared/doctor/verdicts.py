"""How bad a finding of the doctor is, and how findings are shown."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from ledgerq_shared.languages import told


class Verdict(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    #: It works, but it should be changed.
    CHANGE = "change"
    #: It does not work, or a promise does not hold.
    FAILS = "FAILS"


class Finding(NamedTuple):
    """One line for people."""

    verdict: Verdict
    subject: str
    #: What was found, and, unless all is well, what to do.
    text: str


def table(findings: Iterable[Finding]) -> str:
    """All findings, in columns."""
    findings = list(findings)
    width = max(len(one.subject) for one in findings)
    return "\n".join(f"{one.verdict:6}  {one.subject:{width}}  {told(one.text)}" for one in findings)
