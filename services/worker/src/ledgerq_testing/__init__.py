"""LedgerQ's test kit: tasks run in the test's process, and a real ledger records them.

pytest finds the fixtures by itself (:mod:`ledgerq_testing.plugin`). Here is what tests compare or expect.
"""

from ledgerq_shared.errors import DuplicateTask, InvalidParameters, InvalidRequest, UnknownTaskType
from ledgerq_testing.outcomes import Outcome, Progress

__all__ = ["DuplicateTask", "InvalidParameters", "InvalidRequest", "Outcome", "Progress", "UnknownTaskType"]
