"""LedgerQ's monitor: reads the stores' health (and, later, metrics); writes nothing to the ledger."""
