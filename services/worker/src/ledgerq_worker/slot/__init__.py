"""What a slot is and what runs in it: modules that every other part of the worker uses."""
