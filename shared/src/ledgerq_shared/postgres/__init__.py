"""The way to PostgreSQL, and the state it is in."""
