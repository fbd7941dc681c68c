"""What a slot is and what runs in it: the leaves that every other part of the worker stands on."""
