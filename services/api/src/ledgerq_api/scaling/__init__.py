"""How many workers a queue needs, for autoscalers."""
