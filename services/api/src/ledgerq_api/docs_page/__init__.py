"""`/docs`: Swagger UI from files that come with the package, so that it needs no internet and runs no script from
elsewhere.

The files are those of `swagger-ui-dist` 5.35.0 (Apache-2.0, see `swagger-ui.LICENSE`), kept compressed, and three small
files of ours.
"""

from __future__ import annotations

import gzip
import mimetypes
from functools import partial
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from starlette.responses import Response

_FOLDER = Path(__file__).parent

#: The files that the page loads, in addition to ``/docs`` itself.
FILES = ("page.css", "page.js", "swagger-ui-bundle.js", "swagger-ui.css")

#: Where FastAPI shows the calls in another form, and where people therefore look for them.
ELSEWHERE = "/redoc"

#: The page may run its own scripts, show its own images and call its own server, and nothing else.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def install(app: FastAPI) -> None:
    """Serve the page and its files."""
    app.add_api_route(ELSEWHERE, _to_page, include_in_schema=False)
    app.add_api_route("/docs", partial(_file, "page.html"), include_in_schema=False)
    for name in FILES:
        app.add_api_route(f"/docs/{name}", partial(_file, name), include_in_schema=False)


async def _to_page() -> RedirectResponse:
    return RedirectResponse("docs")  # relative: it stays under the prefix of a proxy


def _file(name: str, request: Request) -> Response:
    if name.endswith(".html"):
        headers = {"cache-control": "no-cache", "content-security-policy": _POLICY}
    else:
        headers = {"cache-control": "max-age=3600", "vary": "accept-encoding"}
    path = _FOLDER / name
    if path.exists():
        body = path.read_bytes()
    else:
        body = path.with_name(f"{name}.gz").read_bytes()
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
        else:
            body = gzip.decompress(body)
    return Response(body, headers=headers, media_type=mimetypes.guess_type(name)[0])
