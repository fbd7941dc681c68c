"""Redis' errors: what each asks its caller to do, and why. Only this module decides it.

Redis begins an error with a word in capitals. ``ERR`` stands for everything else; there the beginning of the text
counts. redis-py has classes for some of the words and then leaves the word out of the text.
"""

from __future__ import annotations

from kombu.exceptions import OperationalError
from redis import exceptions

from ledgerq_shared.faults import Fault, Row

REPEAT, RECONNECT, REFUSE, MISTAKE = Fault.REPEAT, Fault.RECONNECT, Fault.REFUSE, Fault.MISTAKE

#: A code is the beginning of an error; the longest one that matches counts. A word that is in no row is taken for a
#: passing state of the server.
TABLE = (
    Row("LOADING", REPEAT, "the server has just been started and reads its data"),
    Row("BUSY", REPEAT, "a script runs for long"),
    Row("UNKILLABLE", REPEAT, "a script runs for long and has written"),
    Row("MISCONF", REPEAT, "the server cannot save its data, and takes no more until it can"),
    Row("OOM", REPEAT, "the server's memory is full, until something expires or somebody gives it more"),
    Row("NOREPLICAS", REPEAT, "too few replicas are connected"),
    Row("TRYAGAIN", REPEAT, "a slot of a cluster is on its way to another node"),
    Row("CLUSTERDOWN", REPEAT, "a cluster has no majority at the moment"),
    Row("NOSCRIPT", REPEAT, "the server has forgotten the scripts that it was given"),
    Row("EXECABORT", REPEAT, "a transaction of which a command was refused: the command's own error says why"),
    Row("IOERR", REPEAT, "the network behind the server failed"),
    Row("READONLY", RECONNECT, "a replica: it was demoted, and the master is elsewhere by now"),
    Row("MASTERDOWN", RECONNECT, "a replica that has lost its master"),
    Row("UNBLOCKED", RECONNECT, "the server let go of whoever waited, because it became a replica or a person said so"),
    Row("REDIRECT", RECONNECT, "the server has handed over to another"),
    Row("NOAUTH", RECONNECT, "a password was set after this connection was opened"),
    Row("WRONGPASS", RECONNECT, "a password is being changed"),
    Row("DENIED", RECONNECT, "a server in protected mode lets nobody in from outside"),
    Row("ERR max number of clients", RECONNECT, "the server has no room for this connection"),
    Row("ERR invalid password", RECONNECT, "a password is being changed"),
    Row("ERR AUTH", RECONNECT, "a password is being taken away"),
    Row("ERR Client sent AUTH", RECONNECT, "a password is being taken away"),
    Row("ERR Protocol error", RECONNECT, "the two ends no longer agree where a command begins"),
    Row("WRONGTYPE", REFUSE, "the key belongs to somebody else: it is no list"),
    Row("NOPERM", REFUSE, "an access list forbids this key or this command to our user"),
    Row("MOVED", MISTAKE, "a node of Redis Cluster, which Celery does not know"),
    Row("ASK", MISTAKE, "a node of Redis Cluster, which Celery does not know"),
    Row("CROSSSLOT", MISTAKE, "a node of Redis Cluster, which Celery does not know"),
    Row("NOPROTO", MISTAKE, "a server that is too old"),
    Row("ERR", MISTAKE, "a command that this server does not have, or does not take as we give it"),
)

_FAULTS = {row.code: row.fault for row in TABLE}

#: The words that redis-py leaves out, the most specific class first. (Newer versions keep the word beside the text.)
_CLASSES: tuple[tuple[type[BaseException], str], ...] = (
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.NoPermissionError, "NOPERM"),
    (exceptions.NoScriptError, "NOSCRIPT"),
    (exceptions.ExecAbortError, "EXECABORT"),
    (exceptions.BusyLoadingError, "LOADING"),
    (exceptions.AuthenticationError, "WRONGPASS"),
    (exceptions.MasterDownError, "MASTERDOWN"),
    (exceptions.ClusterDownError, "CLUSTERDOWN"),
    (exceptions.ClusterCrossSlotError, "CROSSSLOT"),
    (exceptions.TryAgainError, "TRYAGAIN"),
    (exceptions.AskError, "ASK"),
)
#: How redis-py's text before an error from a pipeline ends.
_IN_PIPELINE = "caused error: "


#: Errors of a server that answers but takes no writes from anybody.
_NO_WRITES = ("MISCONF", "OOM", "NOREPLICAS", "READONLY")


def fault_of(error: BaseException) -> Fault:
    """What ``error``, which work on Redis raised, asks its caller to do."""
    error = _cause_of(error)
    for kind, word in _CLASSES:
        if isinstance(error, kind):
            return _FAULTS[word]
    if isinstance(error, exceptions.ResponseError):
        return _fault_of_text(_text_of(error))
    if isinstance(error, exceptions.DataError):
        return REFUSE  # redis-py cannot send the value
    if isinstance(error, (exceptions.WatchError, exceptions.LockError)):
        return REPEAT
    if isinstance(error, (exceptions.RedisError, OperationalError, OSError)):
        return RECONNECT  # this comes from the driver and not from the server: it got no sensible answer
    return MISTAKE


def refuses_writes(error: BaseException) -> bool:
    """Whether the server would not take anybody's writes at the moment: a full disk, no memory, a replica."""
    error = _cause_of(error)
    word = next((word for kind, word in _CLASSES if isinstance(error, kind)), None)
    return (word or _text_of(error)).startswith(_NO_WRITES)


def _cause_of(error: BaseException) -> BaseException:
    return error.__cause__ if isinstance(error, OperationalError) and error.__cause__ is not None else error


def _text_of(error: BaseException) -> str:
    text = str(error).rpartition(_IN_PIPELINE)[2]
    taken = getattr(error, "status_code", None)  # redis-py has removed the word from the text
    return f"{taken} {text}" if taken else text


def _fault_of_text(text: str) -> Fault:
    found = [row.code for row in TABLE if text.startswith(row.code)]
    if found:
        return _FAULTS[max(found, key=len)]
    return REPEAT if text.partition(" ")[0].isupper() else MISTAKE
