"""LedgerQ's monitor: it reads the stores' health, exports metrics and runs Flower; it writes nothing to the ledger."""
