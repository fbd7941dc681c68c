"""Cancel tasks, run them again, say why one does not run; pause queues."""
