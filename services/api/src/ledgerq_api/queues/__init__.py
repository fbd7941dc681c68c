"""Queues: how much waits, for how long, who serves it."""
