"""Live workers and what they run."""
