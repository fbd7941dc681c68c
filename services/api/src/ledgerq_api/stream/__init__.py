"""Follow tasks live: Server-Sent Events."""
