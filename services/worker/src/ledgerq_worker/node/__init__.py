"""A worker node: Celery's parent, its lease agent, the slots they share and what they count."""
