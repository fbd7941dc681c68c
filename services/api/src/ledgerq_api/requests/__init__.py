"""What surrounds every request, and what clients send."""
