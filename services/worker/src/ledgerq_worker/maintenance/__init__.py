"""Keeps the ledger in order. Every loop has one skeleton (:mod:`.loop`); only the leader (:mod:`.leader`) works."""
