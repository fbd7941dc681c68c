"""The users' command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import NoReturn

from launcher.errors import UsageError
from ledgerq_shared.languages import Said, say, told

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True)
class Options:
    """What the flags say; None means that the environment decides."""

    api: bool
    worker: bool
    monitor: bool
    api_port: int | None
    api_reload: bool
    worker_concurrency: int | None
    worker_reload: bool
    worker_loglevel: str | None
    debug: bool


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError("{message} (see: python main.py --help)", message=message)


def parse(arguments: list[str]) -> Options:
    """Read the flags. Raises :class:`UsageError` with one line; ``--help`` prints and exits 0."""
    flags = _parser().parse_args(arguments)
    if not flags.api and not flags.worker:
        raise UsageError("--no-api and --no-worker together leave nothing to run")
    return Options(**vars(flags))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python main.py",
        description=told(
            say(
                "Start LedgerQ: the API and a worker, unless told otherwise. Without DATABASE_URL and "
                "REDIS_URL (in the environment or in .env) it brings its own PostgreSQL and Valkey."
            )
        ),
        allow_abbrev=False,
    )
    _switch(parser, "api", default=True, about=say("the HTTP API"))
    _switch(parser, "worker", default=True, about=say("a worker and its maintenance process"))
    _switch(parser, "monitor", default=False, about=say("the monitor and Flower"))
    parser.add_argument("--api-port", type=_port, metavar="N", help=told(say("port of the API (default: 8000)")))
    parser.add_argument("--api-reload", action="store_true", help=told(say("restart the API when its code is edited")))
    parser.add_argument(
        "--worker-concurrency", type=_positive, metavar="N", help=told(say("tasks at a time (default: CPU cores)"))
    )
    parser.add_argument(
        "--worker-reload", action="store_true", help=told(say("restart the worker when a task is edited"))
    )
    parser.add_argument(
        "--worker-loglevel",
        type=_level,
        metavar="L",
        help=told(say("{levels} (default: info)", levels=", ".join(LOG_LEVELS))),
    )
    parser.add_argument("--debug", action="store_true", help=told(say("log every SQL statement and every message")))
    return parser


def _switch(parser: argparse.ArgumentParser, name: str, *, default: bool, about: Said) -> None:
    run, no = (say(" (default)"), say("")) if default else (say(""), say(" (default)"))
    start = told(say("start {about}{default}", about=about, default=run))
    parser.add_argument(f"--run-{name}", dest=name, action="store_true", default=default, help=start)
    leave = told(say("do not start {about}{default}", about=about, default=no))
    parser.add_argument(f"--no-{name}", dest=name, action="store_false", help=leave)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(told(say("{text!r} is not a port between 1 and 65535", text=text)))
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(told(say("{text!r} is not a whole number above 0", text=text)))
    return int(text)


def _level(text: str) -> str:
    if text.lower() not in LOG_LEVELS:
        levels = ", ".join(LOG_LEVELS)
        raise argparse.ArgumentTypeError(told(say("{text!r} is not one of {levels}", text=text, levels=levels)))
    return text.lower()
