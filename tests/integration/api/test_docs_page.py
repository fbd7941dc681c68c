"""`/docs` comes whole from the API: no script of others, no internet, nothing that another page may frame."""

from __future__ import annotations

import re

from ledgerq_api import docs_page


def test_the_page_and_its_files_come_from_here_alone(bare_api):
    page = bare_api.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert set(loaded) == {"data:,", "openapi.json", *(f"docs/{name}" for name in docs_page.FILES)}
    for path in loaded[1:]:
        assert bare_api.get(f"/{path}").status == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "script-src 'self';" in policy


def test_where_fastapi_has_another_page_one_is_led_to_this_one(bare_api):
    answer = bare_api.get("/redoc")
    assert (answer.status, answer.headers["location"]) == (307, "docs")
