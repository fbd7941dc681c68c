"""Celery's own integration tests, against a stock worker and against LedgerQ's, side by side: ``make test-celery``.

`source` fetches them, `shim` is added to their conftest.py, `application` is the application that both workers run,
`contenders` starts the workers, `verdicts` compares, and `known.toml` names what does not pass, and why.
"""
