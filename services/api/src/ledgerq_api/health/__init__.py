"""Is it alive, is it ready, how is it."""
