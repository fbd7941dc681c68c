"""What two services must agree on, and nothing else: states, ids, errors, tables, statements, connections."""

__version__ = "0.1.0"
