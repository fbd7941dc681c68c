"""What a slot does: claim ready tasks of a queue, run them, record their ends."""
