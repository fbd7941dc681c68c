"""values.yaml with its comments: each key's value, line and description."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

_DESCRIPTION = "# -- "
_SCHEMA = "# @schema "
_POD = "# @pod"


@dataclass(frozen=True, slots=True)
class Key:
    """A key of values.yaml."""

    path: tuple[str, ...]
    value: Any
    #: One paragraph; empty for a key inside a map that is described as a whole.
    description: str
    #: What `# @schema` says.
    schema: dict[str, Any]
    #: The keys of `podDefaults` that it does not have, although `# @pod` gives it the others; None: it has none of
    #: them.
    pod_without: frozenset[str] | None
    children: tuple[Key, ...] = field(default=())

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path[-1]

    @property
    def is_open(self) -> bool:
        """Whether its schema itself says what it may contain."""
        return any(word in self.schema for word in ("$ref", "additionalProperties", "properties", "items"))


def read(text: str) -> tuple[Key, ...]:
    """The keys of the file, in order.

    Raises:
        ValueError: a key has no description, or a line beginning with ``# @schema`` is no JSON.
    """
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    keys = tuple(_keys(root, text.splitlines(), ()))
    for key in walk(keys):
        if not key.description:
            raise ValueError(f"{'.'.join(key.path)} has no description (`# -- …` in the line above it)")
    return keys


def walk(keys: tuple[Key, ...]) -> Iterator[Key]:
    """All keys that have a place of their own in the schema, outer ones first."""
    for key in keys:
        yield key
        yield from walk(key.children)


def _keys(node: yaml.MappingNode, lines: list[str], path: tuple[str, ...]) -> Iterator[Key]:
    for name_node, value_node in node.value:
        here = (*path, name_node.value)
        description, schema, pod_without = _comment(lines, name_node.start_mark.line, here)
        key = Key(here, yaml.safe_load(yaml.serialize(value_node)), description, schema, pod_without)
        if isinstance(value_node, yaml.MappingNode) and not key.is_open:
            children = tuple(_keys(value_node, lines, here))
            key = Key(here, key.value, description, schema, pod_without, children)
        yield key


def _comment(lines: list[str], line: int, path: tuple[str, ...]) -> tuple[str, dict[str, Any], frozenset[str] | None]:
    words: list[str] = []
    schema: dict[str, Any] = {}
    pod_without: frozenset[str] | None = None
    begin = line
    while begin and lines[begin - 1].lstrip().startswith("#"):
        begin -= 1
    for text in (entry.strip() for entry in lines[begin:line]):
        if text.startswith(_SCHEMA):
            try:
                schema |= json.loads(text.removeprefix(_SCHEMA))
            except ValueError as error:
                raise ValueError(f"{'.'.join(path)}: `{text}` is no JSON ({error})") from None
        elif text.startswith(_POD):
            pod_without = frozenset(re.findall(r"\w+", text.removeprefix(_POD).removeprefix(" without")))
        else:
            words.append(text.removeprefix(_DESCRIPTION if not words else "# ").removeprefix("# "))
    return " ".join(words), schema, pod_without
