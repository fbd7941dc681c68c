"""Whether the API is alive and ready, and the health of everything."""
