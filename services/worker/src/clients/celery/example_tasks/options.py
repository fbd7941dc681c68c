"""What a caller can ask of `process_document`."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import ConfigDict
from typing_extensions import TypedDict

from clients.celery.example_tasks.errors import InvalidOptions

Format = Literal["text", "pdf", "png"]
Quality = Literal["low", "medium", "high"]


class DocumentOptions(TypedDict, total=False):
    """`format`: `text` (default) extracts text, `pdf` reports on every page, `png` makes thumbnails.

    `quality`: `low`, `medium` (default) or `high`: how much text, how many details, how large a thumbnail.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # pydantic's documented way

    format: Format
    quality: Quality


_CHOICES: dict[str, tuple[str, ...]] = {"format": get_args(Format), "quality": get_args(Quality)}
_DEFAULTS = {"format": "text", "quality": "medium"}


def checked_options(options: Mapping[str, Any] | None) -> tuple[Format, Quality]:
    """The format and quality asked for, defaults filled in; `InvalidOptions` names what is unknown.

    The API checks the same against the catalogue's schema; this guards tasks sent from Python code.
    """
    if options is not None and not isinstance(options, Mapping):
        raise InvalidOptions(f"options must be an object such as {_DEFAULTS}, not {type(options).__name__}.")
    chosen = _DEFAULTS | dict(options or {})
    for name, value in chosen.items():
        if name not in _CHOICES:
            raise InvalidOptions(f"Unknown option {name!r}: use {' and '.join(_CHOICES)}.")
        if value not in _CHOICES[name]:
            raise InvalidOptions(f"Unknown {name} {value!r}: use one of {', '.join(_CHOICES[name])}.")
    return chosen["format"], chosen["quality"]  # checked above
