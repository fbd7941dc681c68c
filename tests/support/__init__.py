"""Processes and servers under test.

=============  =====================================================================================
`wait`         poll with a deadline: there is no ``sleep`` in tests
`servers`      one embedded PostgreSQL and Valkey for all pytest-xdist workers
`databases`    a fresh database for a test, cloned from the migrated template
`stack`        API, worker, maintenance, monitor and launcher as real processes, stopped by pid
`http`         the smallest HTTP client that tests need
=============  =====================================================================================

`tests/conftest.py` makes fixtures of them.
"""
