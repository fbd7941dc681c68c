"""What people read, in their language. The code says it in English; beside it, each package has the Chinese in its
module ``chinese``, by the English text. A text without Chinese is shown in English.

What a client of the API reads follows its ``Accept-Language`` (:mod:`ledgerq_api.answers.languages`). What a command writes
follows `LEDGERQ_LOCALE`. Logs, and what is printed for machines, are English.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import Literal, Self

Locale = Literal["zh", "en"]
DEFAULT: Locale = "en"

#: Packages that have a catalogue; one counts as soon as it is imported.
_PACKAGES = ("ledgerq_shared", "ledgerq_api", "ledgerq_worker", "ledgerq_monitor", "launcher")


class Said(str):
    """A text for people: as a string it is English, and :func:`spoken` says it in another language.

    Attributes:
        template: the English text, with fields as :meth:`str.format` knows them.
        fields: their values; texts among them are translated, too.
    """

    __slots__ = ("fields", "template")

    template: str
    fields: dict[str, object]

    def __new__(cls, template: str, fields: dict[str, object] | None = None) -> Self:
        """See the class."""
        said = super().__new__(cls, _filled(template, fields or {}, DEFAULT))
        said.template, said.fields = template, fields or {}
        return said


class SaidError(Exception):
    """An error for people: its text is one line, in the language of this process.

    Args:
        template: as for :func:`say`; or a text that was made there.
    """

    def __init__(self, template: str, /, **fields: object) -> None:
        super().__init__(template if isinstance(template, Said) else say(template, **fields))

    @property
    def said(self) -> Said:
        """The text itself."""
        text = self.args[0]
        assert isinstance(text, Said)
        return text

    def __str__(self) -> str:
        return told(self.said)


def say(template: str, /, **fields: object) -> Said:
    """A text for people. Without fields, braces mean themselves."""
    return Said(template, fields)


def reason(error: OSError) -> Said:
    """Why the system refuses something."""
    return say(error.strerror or str(error) or type(error).__name__)


def spoken(text: str, locale: Locale) -> str:
    """``text`` in a language; a plain string stays what it is."""
    if not isinstance(text, Said):
        return text
    template = text.template
    return _filled((locale == "zh" and in_chinese(template)) or template, text.fields, locale)


def told(text: str) -> str:
    """``text`` in the language of this process."""
    return spoken(text, of_process())


def of_process() -> Locale:
    """The language of what this process writes for people: what `LEDGERQ_LOCALE` says, or English."""
    return named(os.environ.get("LEDGERQ_LOCALE", "")) or DEFAULT


def named(text: str) -> Locale | None:
    """The language that a name such as ``zh``, ``zh-CN`` or ``zh_CN.UTF-8`` means; None: none of ours."""
    match re.split(r"[-_.@]", text.strip().lower(), maxsplit=1)[0]:
        case "zh":
            return "zh"
        case "en":
            return "en"
    return None


def in_chinese(template: str) -> str | None:
    """The Chinese for an English text; None: nobody has written it."""
    for package in _PACKAGES:
        if package in sys.modules:
            catalogue: dict[str, str] = importlib.import_module(f"{package}.chinese").CHINESE
            if (chinese := catalogue.get(template)) is not None:
                return chinese
    return None


def _filled(template: str, fields: dict[str, object], locale: Locale) -> str:
    if not fields:
        return template
    return template.format(**{name: _value(value, locale) for name, value in fields.items()})


def _value(value: object, locale: Locale) -> object:
    if isinstance(value, SaidError):
        value = value.said
    return spoken(value, locale) if isinstance(value, Said) else value
