"""The documentation site, before MkDocs has it (`make docs` builds it, strictly)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.scripts import script

ROOT = Path(__file__).parent.parent.parent

SITE = script("make_site")


def test_both_glossaries_have_the_same_words():
    words = [
        [
            re.findall(r"\*\*(.+?)\*\*", row.split("|")[1])
            for row in SITE.text_of(name).splitlines()
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


def test_a_page_that_is_not_translated_says_so_below_its_title(tmp_path):
    SITE.Source(tmp_path).write()
    note = SITE.UNTRANSLATED["zh"]
    for page in ("reference/http", "adr/0001-the-ledger-is-the-truth", "project/changelog"):
        title, text = (tmp_path / f"{page}.md").read_text("utf-8").split("\n", 1)
        assert title.startswith("# ")
        assert (tmp_path / f"{page}.zh.md").read_text("utf-8") == f"{title}\n\n{note}\n{text}"
    assert note not in (tmp_path / "tutorial.zh.md").read_text("utf-8")


def test_a_page_that_loads_something_from_elsewhere_is_found(tmp_path):
    (tmp_path / "good.html").write_text('<a href="https://example.org">x</a><script src="assets/a.js"></script>')
    assert SITE.foreign(tmp_path) == []
    (tmp_path / "bad.html").write_text('<script src="https://example.org/a.js"></script>')
    assert len(SITE.foreign(tmp_path)) == 1


def test_the_search_that_needs_no_server_has_every_language(tmp_path):
    (tmp_path / "search").mkdir()
    (tmp_path / "search/search_index.json").write_text('{"docs":["all"]}')
    (tmp_path / "search/search_index.js").write_text('var __index = {"docs":["the last"]}')
    SITE.inline_search(tmp_path)
    assert (tmp_path / "search/search_index.js").read_text() == 'var __index = {"docs":["all"]}'
