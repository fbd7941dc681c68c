"""Tasks and their base class for Celery workers; see `base_tasks` and `example_tasks`."""
