"""Command lines made with Typer or argparse, in the language of the process: their help, and what they say of wrong
input.
"""

from __future__ import annotations

import gettext
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ledgerq_shared.languages import Said, in_chinese, of_process, say, told
from ledgerq_shared.process import output

if TYPE_CHECKING:
    import typer


def run_app(app: typer.Typer, program: str) -> None:
    """Run a command line, and end the process with its exit code. What is wrong with the input is told in one line."""
    import typer.main
    from typer._click import exceptions

    command = typer.main.get_command(app)
    if of_process() == "zh":
        translate_parsers()
        _translate_help(command)
    try:
        code = command(prog_name=program, standalone_mode=False)
    except exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except exceptions.ClickException as error:
        place = error.ctx.command_path if isinstance(error, exceptions.UsageError) and error.ctx else program
        complain(program, say("{what} (see: {place} --help)", what=_what_is_wrong(error), place=place))
        code = error.exit_code
    except typer.Abort:
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def write(text: str, *, err: bool = False) -> None:
    """Print a line for people."""
    import typer

    typer.echo(told(text), err=err)


def complain(program: str, text: str) -> None:
    """Say in one line, on standard error, why a program gives up."""
    output.tell(f"{program}: {told(text)}")


def translate_parsers() -> None:
    """Let argparse and Typer, which ask :mod:`gettext` for their own words, find them in our catalogues, too."""
    if of_process() == "zh":
        gettext.dgettext = _word
        gettext.dngettext = _plural


def help_texts(command: Any) -> Iterator[tuple[object, str]]:
    """Each help text of a Click command, of its options and of the commands below it, in one line, and whose it is."""
    import typer

    for thing in (command, *command.params, command.get_help_option(typer.Context(command))):
        if text := getattr(thing, "help", None):
            yield thing, " ".join(text.split())
    for below in getattr(command, "commands", {}).values():
        yield from help_texts(below)


def _translate_help(command: Any) -> None:
    from rich.table import Table

    rich_utils: Any = importlib.import_module("typer.rich_utils")

    class Folding(Table):
        """Chinese has no spaces at which a line could end; Rich would cut it off."""

        def add_row(self, *cells: Any, **options: Any) -> None:
            super().add_row(*cells, **options)
            for column in self.columns:
                column.overflow = "fold"

    rich_utils.Table = Folding
    for thing, text in list(help_texts(command)):
        thing.help = in_chinese(text) or text  # type: ignore[attr-defined]
        if hasattr(thing, "get_usage"):
            thing.get_usage = partial(_usage, thing.get_usage)


def _usage(get_usage: Callable[[Any], str], context: Any) -> str:
    return get_usage(context).replace("Usage: ", _word("", "usage: "), 1)


def _what_is_wrong(error: Any) -> Said:
    """Click's own sentences, in our words."""
    from typer._click import exceptions

    match error:
        case exceptions.NoSuchOption():
            return say("there is no option {option}", option=error.option_name)
        case exceptions.BadOptionUsage():
            return say("{option} needs a value", option=error.option_name)
        case exceptions.MissingParameter():
            return say("{name} is missing", name=_name_of(error))
        case exceptions.BadParameter():
            return say("{name}: {message}", name=_name_of(error), message=_reason(error.message))
    if extra := re.search(r"unexpected extra argument.*\((.*)\)", error.message):
        return say("there is an argument too many: {extra}", extra=extra[1])
    return say(error.format_message().rstrip("."))


def _name_of(error: Any) -> str:
    return str(error.param_hint or (error.param and error.param.get_error_hint()) or "").strip("'")


def _reason(message: str) -> Said:
    message = message.removeprefix("Value error, ").rstrip(".")
    if found := re.fullmatch(r"('.*') is not one of (.*)", message, re.DOTALL):
        return say("{text} is not one of {levels}", text=found[1], levels=found[2])
    return say(message)


def _word(domain: str, message: str) -> str:
    return in_chinese(message) or message


def _plural(domain: str, msgid1: str, msgid2: str, n: int) -> str:
    return in_chinese(msgid1) or (msgid1 if n == 1 else msgid2)
