"""PostgreSQL's errors: what each SQLSTATE asks its caller to do, and why. Only this module decides it."""

from __future__ import annotations

import psycopg2

from ledgerq_shared.faults import Fault, Row

REPEAT, RECONNECT, REFUSE, MISTAKE = Fault.REPEAT, Fault.RECONNECT, Fault.REFUSE, Fault.MISTAKE

#: A code is an SQLSTATE of five characters, or a class of two. A single SQLSTATE takes precedence over its class. A
#: code that is not in the table, and whose class is not, is a mistake of ours.
TABLE = (
    Row("08", RECONNECT, "the connection is broken, or never was one"),
    Row("0A", RECONNECT, "a standby that is to be written to; or a kept plan whose columns have changed since"),
    Row("22", REFUSE, "a value that PostgreSQL cannot hold: a NUL, a number that is too large, broken JSON"),
    Row("23", REFUSE, "a row that a constraint forbids, ours or one that was added"),
    Row("25006", RECONNECT, "a server that only reads: it was demoted, and the writer is elsewhere by now"),
    Row("25P03", RECONNECT, "closed because its transaction stood still"),
    Row("25P04", RECONNECT, "closed because its transaction took longer than the operator allows"),
    Row("25", MISTAKE, "a statement at the wrong place in a transaction"),
    Row("26000", RECONNECT, "a kept statement is gone: the session is not the one that it was"),
    Row("28", RECONNECT, "not let in: a password that is being changed, or a server that is not the right one"),
    Row("38", REFUSE, "a trigger that somebody has added does not want this row"),
    Row("39", REFUSE, "a trigger that somebody has added does not want this row"),
    Row("3D", RECONNECT, "no such database: it is being replaced by another, or the server is the wrong one"),
    Row("40", REPEAT, "a deadlock, or two transactions that cannot be put in one order"),
    Row("42P05", RECONNECT, "a kept statement is there already: the session is not the one that it was"),
    Row("42", MISTAKE, "SQL that does not fit the tables, or rights that are missing: whoever can must put it right"),
    Row("44", REFUSE, "a row that a view's check forbids"),
    Row("53", REPEAT, "a full disk, no memory, no connection left: for everybody, until there is room again"),
    Row("54", REFUSE, "more than PostgreSQL can take at once, such as JSON that is nested too deeply"),
    Row(
        "55", REPEAT, "somebody else holds what is needed: a lock for longer than `lock_timeout`, a table that is moved"
    ),
    Row("57014", REPEAT, "the statement was cancelled: by a person, or by a time limit of a pooler's"),
    Row("57", RECONNECT, "the server ends the session: it stops, starts, or an administrator says so"),
    Row("58", REPEAT, "an I/O error, or a file that is missing, on the server or behind a pooler"),
    Row("72", REPEAT, "what a long statement was reading has been cleared away"),
    Row("F0", REPEAT, "the server's configuration is being changed"),
    Row("P0", REFUSE, "a trigger that somebody has added does not want this row"),
    Row("XX", REPEAT, "PostgreSQL's own fault, or a pooler's: nothing that an item could be the reason of"),
)

_FAULTS = {row.code: row.fault for row in TABLE}


def fault_of(error: BaseException) -> Fault:
    """What ``error``, which work on PostgreSQL raised, asks its caller to do."""
    if not isinstance(error, psycopg2.Error):
        # Raised before anything was sent: a text that is not UTF-8, a value that JSON cannot hold, a user's own code.
        return REPEAT if isinstance(error, (MemoryError, OSError)) else REFUSE
    code = error.pgcode
    if code is None:
        # These errors come from the driver and not from the server. These classes mean that its caller misused it;
        # every other one means that it got no sensible answer.
        misused = (psycopg2.ProgrammingError, psycopg2.DataError, psycopg2.NotSupportedError)
        return MISTAKE if isinstance(error, misused) else RECONNECT
    return _FAULTS.get(code) or _FAULTS.get(code[:2]) or MISTAKE


def is_missing_right(error: BaseException) -> bool:
    """Whether the role lacks a right: this is no item's fault, and an operator must correct it. (An error with the same
    SQLSTATE may concern one row, such as a policy that forbids it, but it has another source in the server.)
    """
    source = error.diag.source_function if isinstance(error, psycopg2.Error) else None
    return bool(source and source.startswith("aclcheck_error"))


#: SQLSTATEs of a server that answers but takes no writes from anybody: a full disk, no memory, an I/O error, a standby.
_NO_WRITES = ("53100", "53200", "58030", "25006")


def refuses_writes(error: psycopg2.Error) -> bool:
    """Whether the server would not take anybody's writes at the moment."""
    return str(error.pgcode or "") in _NO_WRITES


def is_full(error: psycopg2.Error) -> bool:
    """Whether the server's disk is full."""
    return bool(error.pgcode == "53100")


#: SQLSTATEs for a function, view or column that the server or the role does not have: it is not supported, the right is
#: missing, it needs another setting, or it does not exist.
_NOT_TO_BE_HAD = ("0A000", "42501", "42703", "42883", "42P01", "55000")


def is_not_to_be_had(error: psycopg2.Error) -> bool:
    """Whether a question about the server itself is refused, and will be refused again: by a database that is
    PostgreSQL in name only, or because the role lacks a right.
    """
    return error.pgcode in _NOT_TO_BE_HAD
