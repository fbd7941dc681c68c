"""Client code of the task queue: the import path that users' task modules start from."""
