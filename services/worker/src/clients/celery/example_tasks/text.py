"""Reading plain-text documents."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from clients.celery.example_tasks.budget import Budget, storable
from clients.celery.example_tasks.errors import BrokenDocument, UnsupportedDocument
from clients.celery.example_tasks.options import Format, Quality
from clients.celery.example_tasks.progress import Reporter, step

LINES_PER_PAGE = 60
_EXCERPT = 500  # characters of a page's text at low quality


def decoded(content: bytes, name: str) -> str:
    """The text of UTF-8 (with or without a byte-order mark) or marked UTF-16; `BrokenDocument` otherwise."""
    marked = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return storable(content.decode("utf-16" if marked else "utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BrokenDocument(f"{name} is not UTF-8 text (byte {error.start:,}): convert it to UTF-8.") from error


def pages_of(text: str) -> list[str]:
    """The pages of a text: up to 60 lines each, and a new one at every form feed; at least one."""
    return list(_pages(text)) or [""]


def _pages(text: str) -> Iterator[str]:
    for chapter in text.split("\f"):
        lines = chapter.replace("\r\n", "\n").split("\n")
        for start in range(0, len(lines), LINES_PER_PAGE):
            yield "\n".join(lines[start : start + LINES_PER_PAGE])


def read_text(content: bytes, name: str, wanted: Format, quality: Quality, reporter: Reporter) -> dict[str, Any]:
    """Every page of the text as `wanted`, with progress; a picture of a text cannot be had."""
    if wanted == "png":
        raise UnsupportedDocument(f"{name} is plain text and has no pages to draw: use format 'text' or 'pdf'.")
    contents = pages_of(decoded(content, name))
    pages = Budget()
    for number, page in enumerate(contents, start=1):
        step(reporter, number - 1, len(contents), f"page {number} of {len(contents)}")
        facts: dict[str, Any] = {"page": number, "characters": len(page)}
        if wanted == "text":
            facts["text"] = page[:_EXCERPT] if quality == "low" else page
        else:
            facts["words"] = len(page.split())
        pages.add(facts)
    return {"pages_processed": len(contents), "pages": pages.entries, "truncated": pages.truncated}


def most_common_words(pages: list[str], top: int, reporter: Reporter) -> dict[str, Any]:
    """How often each word occurs, whatever its case; the `top` most frequent ones first, ties by alphabet."""
    counts: Counter[str] = Counter()
    for number, page in enumerate(pages):
        step(reporter, number, len(pages), f"page {number + 1} of {len(pages)}")
        counts.update(re.findall(r"\w+(?:['’]\w+)*", page.lower()))
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:top]
    # A file may hold one word of many megabytes.
    listed = [{"word": word[:100], "count": count} for word, count in ranked]
    return {"words": counts.total(), "distinct_words": len(counts), "most_common": listed}
