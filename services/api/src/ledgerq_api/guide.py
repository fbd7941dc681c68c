"""`/docs/guide`: the documentation site, where ``make docs`` has built it beside this code."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from ledgerq_api.answers.errors import RouteNotFound
from ledgerq_api.checkout import above
from ledgerq_shared.languages import say

PATH = "/docs/guide"
_BELOW = f"{PATH}/"
#: The routes of it, as templates.
ROUTES = (PATH, f"{_BELOW}{{path}}")
#: Where ``make docs`` puts it, if this code runs in a checkout.
FOLDER = above(__file__, 4) / "site"

#: Its pages have scripts and styles in them, and load nothing from elsewhere.
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Guide(StaticFiles):
    """The files of the site. They may be built, or built anew, while the API runs."""

    def __init__(self, folder: Path = FOLDER) -> None:
        super().__init__(directory=folder, check_dir=False)
        self._folder = folder

    async def get_response(self, path: str, scope: Scope) -> Response:
        """As Starlette's.

        Raises:
            RouteNotFound: the site is not built here, or has no such page.
        """
        if not self._folder.is_dir():
            raise RouteNotFound(say("The documentation is not built here: run `make docs` in the repository."))
        try:
            answer = await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code == RouteNotFound.status:
                raise RouteNotFound from None
            raise
        answer.headers["content-security-policy"] = _POLICY
        return answer


def install(app: FastAPI) -> None:
    """Serve the site."""
    app.add_api_route(PATH, _to_pages, include_in_schema=False)
    # Not a route of FastAPI's, which would check the query: the search gives each page one.
    app.router.routes.append(page_route(Guide()))


def page_route(guide: Guide) -> Route:
    """The route of every page and file."""

    async def answer(request: Request) -> Response:
        path = request.path_params["path"]
        if not path or path.endswith("/"):
            path += "index.html"
        return await guide.get_response(path, request.scope)

    return Route(f"{PATH}/{{path:path}}", answer, methods=["GET"], include_in_schema=False)


def is_page(path: str) -> bool:
    """Whether ``path`` is one of the site's."""
    return path.startswith(_BELOW) or path == PATH


async def _to_pages() -> RedirectResponse:
    return RedirectResponse("guide/")  # relative: it stays under the prefix of a proxy
