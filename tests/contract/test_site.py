"""The documentation site: both languages have the same pages, headings and commands."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent

#: Folders whose pages are English only: what is generated from the code, and what is read beside the code.
ENGLISH = ("docs/reference/", "docs/adr/", "docs/model/", "docs/benchmarks.md")
#: Pages that are still without Chinese. This list only shrinks: take a page out when it is translated.
WITHOUT_CHINESE: set[str] = {
    f"docs/guides/{name}.md" for name in ("guarantees", "high-availability", "hostile", "observe")
} | {
    f"docs/runbooks/{name}.md"
    for name in (
        "disk-growth", "exporter-down", "failure-ratio", "leader-missing", "ledger-went-back", "no-workers",
        "not-synchronous", "oldest-task-too-old", "postgresql-away", "redis-away", "store-outage", "task-quarantined",
        "tasks-stuck",
    )
}  # fmt: skip


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SITE = script("make_site")
PAGES = [name for name in SITE.documents() if name.startswith("docs/") and not name.startswith(ENGLISH)]
TRANSLATED = sorted(name for name in PAGES if name.endswith(".zh.md"))


def text_of(name: str) -> str:
    return SITE.text_of(name)


def levels(text: str) -> list[str]:
    return re.findall(r"^(#+) ", SITE.FENCE.sub("", text), re.MULTILINE)


def code(text: str) -> list[str]:
    """The code of a document, without its comments."""
    fences = [found[0] for found in SITE.FENCE.finditer(text)]
    return [re.sub(r"[ \t]*(?:#|--) [^\n]*", "", fence).replace("\n\n", "\n") for fence in fences]


def test_every_page_is_there_in_chinese_but_for_those_that_are_listed():
    originals = {name for name in PAGES if not name.endswith(".zh.md")}
    missing = {name for name in originals if name.replace(".md", ".zh.md") not in TRANSLATED}
    assert missing == WITHOUT_CHINESE
    assert {name.replace(".zh.md", ".md") for name in TRANSLATED} <= originals


@pytest.mark.parametrize("name", TRANSLATED)
def test_a_translation_has_the_headings_of_its_original_and_names_their_anchors(name):
    translation, original = text_of(name), text_of(name.replace(".zh.md", ".md"))
    assert levels(translation) == levels(original)
    assert SITE.headings(translation) == SITE.headings(original)


@pytest.mark.parametrize("name", TRANSLATED)
def test_a_translation_has_the_commands_and_examples_of_its_original(name):
    assert code(text_of(name)) == code(text_of(name.replace(".zh.md", ".md")))


def test_both_glossaries_have_the_same_words():
    words = [
        [
            re.findall(r"\*\*(.+?)\*\*", row.split("|")[1])
            for row in text_of(name).splitlines()
            if row.startswith("| **")
        ]
        for name in ("docs/glossary.md", "docs/glossary.zh.md")
    ]
    assert len(words[0]) > 25
    assert words[0] == words[1]


def test_the_drawings_are_what_their_script_draws():
    done = subprocess.run(
        [sys.executable, "scripts/make_drawings.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_page_has_its_place_in_the_navigation():
    navigation = SITE.configuration().partition("\nnav:\n")[2]
    pages = {page for page in SITE.documents().values() if not page.endswith(".zh.md")}
    assert set(re.findall(r"[\w/.-]+\.md", navigation)) == pages


def test_a_link_leads_to_the_page_in_the_readers_language_and_one_to_code_is_a_path(tmp_path):
    source = SITE.Source(tmp_path)
    source.write()
    security = (tmp_path / "project/security.md").read_text(encoding="utf-8")
    assert "(../guides/configuration.md#api-keys)" in security
    home = (tmp_path / "index.zh.md").read_text(encoding="utf-8")
    assert "(tutorial.md)" in home
    assert ".zh.md" not in home
    compose = (tmp_path / "guides/compose.md").read_text(encoding="utf-8")
    assert "[`.env.example`]" not in compose
    assert "`.env.example`" in compose


def test_a_page_that_loads_something_from_elsewhere_is_found(tmp_path):
    (tmp_path / "good.html").write_text('<a href="https://example.org">x</a><script src="assets/a.js"></script>')
    assert SITE.foreign(tmp_path) == []
    (tmp_path / "bad.html").write_text('<script src="https://example.org/a.js"></script>')
    assert len(SITE.foreign(tmp_path)) == 1
