"""Failovers of a real PostgreSQL cluster under load (`make test-ha`; a short form in `.ci/run`; not in `make test`)."""
