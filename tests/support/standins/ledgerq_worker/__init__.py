"""Stands in for the worker in tests of the launcher."""
