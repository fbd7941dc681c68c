"""The worker service: claims tasks from the ledger, runs them in Celery's pool, records what they did."""

__version__ = "0.1.0"
