"""Makes the Chinese page of a page of the reference: heading by heading, paragraph by paragraph, cell by cell.

The Chinese of a text stands in :mod:`reference.chinese`, by the English one, as for everything that people read; what the
services also say (the meanings of errors) is in the packages' own catalogues.
"""

from __future__ import annotations

import re

from ledgerq_shared.languages import in_chinese
from reference.chinese import TEXTS

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
#: What is the same in every language: names in code, numbers, dashes, arrows between states.
_SAME = re.compile(r"(?:`[^`]*`|[-–→.,; \d]|[A-Z_]{3,}|counter|gauge|histogram)*")
_BOUND = re.compile(r"(at least|at most|above|below) ([\d.e+]+)")
_BOUNDS = {"at least": "至少", "at most": "至多", "above": "大于", "below": "小于"}


class NoChinese(Exception):
    """A text of the reference has no Chinese yet: it belongs into ``scripts/reference/chinese.py``."""


def translated(page: str) -> str:
    """The Chinese page of an English one.

    Raises:
        NoChinese: it names every text that has no Chinese.
    """
    missing: list[str] = []
    blocks = [_block(block, missing) for block in _blocks(page)]
    if missing:
        raise NoChinese("no Chinese in scripts/reference/chinese.py for:\n" + "\n".join(dict.fromkeys(missing)))
    return "\n\n".join(blocks) + "\n"


def _blocks(page: str) -> list[str]:
    """What blank lines separate; a fence is one block."""
    fences: list[str] = []

    def keep(found: re.Match[str]) -> str:
        fences.append(found[0])
        return f"```{len(fences) - 1}"

    parts = _FENCE.sub(keep, page.rstrip("\n")).split("\n\n")
    return [fences[int(part[3:])] if part.startswith("```") else part for part in parts]


def _block(block: str, missing: list[str]) -> str:
    if block.startswith(("```", "<!--")):
        return block
    if block.startswith("#"):
        marks, _, title = block.partition(" ")
        anchor = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        return f"{marks} {_text(title, missing)} {{#{anchor}}}"
    if block.startswith("|"):
        return "\n".join(_row(line, missing) for line in block.split("\n"))
    return _text(" ".join(block.split()), missing)


def _row(line: str, missing: list[str]) -> str:
    cells = re.split(r"(?<!\\)\|", line.strip()[1:-1])
    return f"| {' | '.join(_text(cell.strip(), missing) for cell in cells)} |"


def _text(text: str, missing: list[str]) -> str:
    if _SAME.fullmatch(text):
        return text
    known = TEXTS.get(text) or in_chinese(text)
    if known is not None:
        return known
    words = text.split(", ")
    if any(_BOUND.fullmatch(word) for word in words):
        return "，".join(_bound(word, missing) for word in words)
    missing.append(text)
    return text


def _bound(word: str, missing: list[str]) -> str:
    found = _BOUND.fullmatch(word)
    return f"{_BOUNDS[found[1]]} {found[2]}" if found else _text(word, missing)
