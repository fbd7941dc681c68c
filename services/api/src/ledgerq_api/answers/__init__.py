"""What clients get: pages, ages, errors in their language."""
