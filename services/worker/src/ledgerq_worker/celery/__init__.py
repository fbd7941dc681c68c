"""Where LedgerQ meets Celery: the application, the tracer's seams, messages in both directions, events, remote control."""
