"""A PostgreSQL that refuses with an error of the test's choice, on the real server."""

from __future__ import annotations

from tests.support import databases


def refuse(url: str, code: str, *, on: str, verb: str, times: int | None) -> None:
    """Each statement of the kind ``verb`` on the table ``on`` ends with SQLSTATE ``code``.

    Args:
        verb: INSERT, UPDATE or DELETE.
        times: the first so many only; None: until :func:`allow`.
    """
    databases.execute(url, "CREATE SEQUENCE refused")
    condition = "true" if times is None else f"nextval('refused') <= {times}"  # (a sequence remembers a rollback)
    databases.execute(
        url,
        f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              IF {condition} THEN RAISE EXCEPTION 'refused on purpose' USING ERRCODE = '{code}'; END IF;
              RETURN NULL;
            END $$""",
    )
    databases.execute(url, f"CREATE TRIGGER refuse BEFORE {verb} ON {on} FOR EACH STATEMENT EXECUTE FUNCTION refuse()")


def refuse_rows(url: str, code: str, *, on: str, verb: str, when: str) -> None:
    """Each row of which ``when`` is true (of ``NEW``) is refused with SQLSTATE ``code``, until :func:`allow`."""
    databases.execute(url, "CREATE SEQUENCE refused")
    databases.execute(
        url,
        f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              RAISE EXCEPTION 'refused on purpose' USING ERRCODE = '{code}';
            END $$""",
    )
    databases.execute(
        url, f"CREATE TRIGGER refuse BEFORE {verb} ON {on} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION refuse()"
    )


def allow(url: str) -> None:
    """As it was."""
    databases.execute(url, "DROP FUNCTION refuse CASCADE")
    databases.execute(url, "DROP SEQUENCE refused")
