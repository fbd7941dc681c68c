"""The ledger's statements beside a small model of what they should do."""
