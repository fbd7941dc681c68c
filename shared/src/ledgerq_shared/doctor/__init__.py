"""``ledgerq-migrate doctor``: whether LedgerQ would work well on this PostgreSQL; to be asked before it is trusted with
anything.
"""

from ledgerq_shared.doctor.findings import Finding, Verdict
from ledgerq_shared.doctor.visit import examine

__all__ = ["Finding", "Verdict", "examine"]
