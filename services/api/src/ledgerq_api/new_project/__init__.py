"""``ledgerq init``: a small project of one's own, with a task, its test and a README."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from ledgerq_api.checkout import above
from ledgerq_shared.languages import reason, say
from ledgerq_shared.process.commands import complain, write

#: The files of a project, each with the one that it is made from.
FILES = {
    "my_tasks.py": "my_tasks.py.txt",
    "tests/test_my_tasks.py": "test_my_tasks.py.txt",
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "README.md.txt",
    ".env": "env.txt",
    ".gitignore": "gitignore.txt",
    "compose.yaml": "compose.yaml.txt",
}
#: Where `compose.yaml` and `main.py` are, if this code runs in a checkout of LedgerQ.
_CHECKOUT = above(__file__, 5)
_BY_THE_CHECKOUT = """{python} {checkout}/main.py"""
_BY_PROCESSES = """set -a; . ./.env; set +a
ledgerq-migrate upgrade && ledgerq-worker register
ledgerq-api & ledgerq-worker maintenance & ledgerq-worker run"""


def init(
    folder: Annotated[
        Path, typer.Argument(help="Where; made if it is not there. The current folder unless given.")
    ] = Path(),
) -> None:
    """Write a small project: a task module, its test, `.env`, a README. Nothing that is there is overwritten."""
    try:
        _write(folder)
    except FileExistsError as error:
        complain("ledgerq", say("{error} exists already: choose another folder, or move it away", error=error))
        raise typer.Exit(2) from None
    except OSError as error:
        complain("ledgerq", say("{place}: {why}", place=error.filename or folder, why=reason(error)))
        raise typer.Exit(1) from None
    write(say("{folder} has a project now. Next:", folder=folder.resolve()))
    write("")
    for line in _next_steps(folder):
        typer.echo(f"  {line}")


def _write(folder: Path) -> None:
    """Write all files, or none if one of them is there.

    Raises:
        FileExistsError: the text names those that are there.
        OSError: a file cannot be written.
    """
    names = [name for name in FILES if _is_checkout() or name != "compose.yaml"]
    there = [str(folder / name) for name in names if (folder / name).exists() or (folder / name).is_symlink()]
    if there:
        raise FileExistsError(", ".join(there))
    told = {
        "{start}": _start(),
        "{python}": sys.executable,
        "{checkout}": str(_CHECKOUT),
        "{here}": str(folder.resolve()),
    }
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = resources.files(__package__).joinpath("files", FILES[name]).read_text("utf-8")
        for mark, value in told.items():
            text = text.replace(mark, value)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)


def _next_steps(folder: Path) -> list[str]:
    enter = [] if folder.resolve() == Path.cwd() else [f"cd {folder}"]
    return [*enter, f"{sys.executable} -m pytest", *_start().splitlines()]


def _is_checkout() -> bool:
    return all((_CHECKOUT / name).exists() for name in ("main.py", "launcher", "compose.yaml"))


def _start() -> str:
    """The command that starts everything: a checkout has a launcher, what was installed from wheels has not."""
    if not _is_checkout():
        return _BY_PROCESSES
    return _BY_THE_CHECKOUT.format(python=sys.executable, checkout=_CHECKOUT)
