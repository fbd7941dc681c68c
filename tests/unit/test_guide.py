"""`/docs/guide` serves what `make docs` has built, and says so where it has not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
from fastapi import FastAPI

from ledgerq_api import guide
from ledgerq_api.answers import problems
from ledgerq_api.auth.key_scopes import KeyScope
from ledgerq_api.auth.scopes import needed_for
from ledgerq_api.checkout import above


def get(folder: Path, path: str) -> httpx.Response:
    """What the API answers for a page of the site in ``folder``."""
    app = FastAPI()
    app.router.routes.append(guide.page_route(guide.Guide(folder)))
    problems.install(app)

    async def answer() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return await client.get(guide.PATH + path)

    return asyncio.run(answer())


def test_the_pages_are_served_and_may_load_nothing_from_elsewhere(tmp_path):
    (tmp_path / "zh").mkdir()
    for name in ("index.html", "zh/index.html"):
        (tmp_path / name).write_text("<h1>LedgerQ</h1>")
    for path in ("/", "/index.html?h=word", "/zh/"):
        answer = get(tmp_path, path)
        assert (answer.status_code, answer.text) == (200, "<h1>LedgerQ</h1>")
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_where_nothing_is_built_the_answer_says_how(tmp_path):
    answer = get(tmp_path / "site", "/")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "`make docs`" in answer.json()["detail"]


def test_a_page_that_is_not_there_is_an_ordinary_404_and_nothing_outside_is_served(tmp_path):
    (tmp_path / "secret").write_text("x")
    (tmp_path / "site").mkdir()
    for path in ("/nothing.html", "/../secret", "/%2e%2e/secret", "/zh", "/%00"):
        answer = get(tmp_path / "site", path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_the_pages_are_open_and_their_neighbours_are_not():
    for path in (guide.PATH, f"{guide.PATH}/", f"{guide.PATH}/zh/index.html"):
        assert needed_for("GET", path) is None
    for path in ("/docs/guides", "/docs/guidebook/x", "/guide"):
        assert needed_for("GET", path) is KeyScope.ADMIN


def test_a_package_that_lies_just_below_the_root_of_the_disk_is_in_no_checkout():
    # As in a container of compose.dev.yaml, or after `pip install --target`.
    assert above("/ledgerq_api/guide.py", 4) == Path("/")
    assert above("/source/service/ledgerq_api/new_project/__init__.py", 5) == Path("/")
    assert above("/home/me/ledgerq/services/api/src/ledgerq_api/guide.py", 4) == Path("/home/me/ledgerq")
