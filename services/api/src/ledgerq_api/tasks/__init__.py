"""Submit tasks, follow them, list them."""
