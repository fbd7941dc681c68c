"""Which task types this worker's code knows, and their parameters' schemas."""
