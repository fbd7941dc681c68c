"""``ledgerq-migrate doctor``: whether LedgerQ would work well on this PostgreSQL; to be asked before it is trusted with
anything.
"""

from ledgerq_shared.doctor.findings import examine
from ledgerq_shared.doctor.verdicts import Finding, Verdict

__all__ = ["Finding", "Verdict", "examine"]
