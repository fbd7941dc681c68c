"""The clock of one test's database, moved by hand: `now()` and `clock_timestamp()` in a schema that is looked at first."""

from __future__ import annotations

from urllib.parse import urlsplit

from tests.support import databases

_SCHEMA = """
CREATE SCHEMA shifted;
CREATE TABLE shifted.by (seconds float8 NOT NULL);
INSERT INTO shifted.by VALUES (0);
CREATE FUNCTION shifted.now() RETURNS timestamptz STABLE LANGUAGE sql AS
  $$ SELECT pg_catalog.now() + seconds * interval '1 second' FROM shifted.by $$;
CREATE FUNCTION shifted.clock_timestamp() RETURNS timestamptz VOLATILE LANGUAGE sql AS
  $$ SELECT pg_catalog.clock_timestamp() + seconds * interval '1 second' FROM shifted.by $$;
"""


class DatabaseClock:
    """Shifts what every session from now on takes for the time."""

    def __init__(self, url: str) -> None:
        self._url = url
        databases.execute(url, _SCHEMA)
        name = urlsplit(url).path[1:]
        databases.execute(url, f"ALTER DATABASE {name} SET search_path = shifted, pg_catalog, public")

    def shift(self, seconds: float) -> None:
        """So far from the true time, into the future or (below 0) the past."""
        databases.execute(self._url, f"UPDATE shifted.by SET seconds = {seconds}")
