"""What the API and the worker do to tasks alike: submit, cancel, wake."""
