"""Stands in for the API in tests of the launcher: starts in no time and misbehaves on request."""
