"""Who may look at Flower's pages, whether they may change anything (read only), and which orders nobody may give there."""

from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING, Any

from ledgerq_monitor import flower_pages
from ledgerq_monitor.collectors.collector import Ledger
from ledgerq_monitor.flower_settings import FlowerSettings
from ledgerq_shared.errors import LedgerQError
from ledgerq_shared.hosts import Hosts
from ledgerq_shared.process.sampling import SampledLog

if TYPE_CHECKING:
    from flower.app import Flower

_OAUTH_HANDLERS = {
    "google": "flower.views.auth.GoogleAuth2LoginHandler",
    "github": "flower.views.auth.GithubLoginHandler",
    "gitlab": "flower.views.auth.GitLabLoginHandler",
    "okta": "flower.views.auth.OktaLoginHandler",
}

_ABORT = "The ledger knows no abort: cancel the task (POST /tasks/{task_id}/cancel, or Revoke here)."


def set_access(options: Any, settings: FlowerSettings) -> None:
    """Tell Flower who may look, and whether they may only look: then its pages show no orders, and it refuses them."""
    options.read_only = settings.read_only
    options.basic_auth = settings.credentials
    if settings.oauth_provider:
        options.auth = settings.oauth_emails
        options.auth_provider = _OAUTH_HANDLERS[settings.oauth_provider]


def replace_pages(flower: Flower, url_prefix: str, ledger: Ledger | None) -> None:
    """Close what Flower leaves open to everybody (its metrics), and orders that would bypass the ledger (abort); show
    the ledger's queues and not only the broker's.
    """
    from flower.views import BaseHandler
    from flower.views.monitor import Metrics
    from tornado.web import HTTPError, authenticated

    if flower.options.basic_auth:
        BaseHandler.get_current_user = _logged_in

    class AuthenticatedMetrics(Metrics):  # type: ignore[misc]
        """Flower's metrics for callers that may look, because they contain the names of workers and tasks."""

        @authenticated
        async def get(self) -> None:
            """The figures."""
            await super().get()

    class Refused(BaseHandler):  # type: ignore[misc]
        """An order that would bypass the ledger."""

        @authenticated
        async def post(self, *_: str) -> None:
            """Refuse."""
            raise HTTPError(403, _ABORT)

    prefix = f"/{url_prefix.strip('/')}" if url_prefix else ""
    # These handlers have a pattern of their own, so that they come before Flower's.
    flower.add_handlers(
        r".+",
        [
            (f"{prefix}/metrics", AuthenticatedMetrics),
            (f"{prefix}/api/task/abort/(.+)", Refused),
            (f"{prefix}/broker", flower_pages.broker_page(ledger)),
        ],
    )


def _logged_in(handler: Any) -> bool:
    """Whether basic auth let the request in. (Flower's own answers 500 to a name or password that is not ASCII.)"""
    from tornado.web import HTTPError

    kind, _, encoded = handler.request.headers.get("Authorization", "").strip().partition(" ")
    try:
        given = base64.b64decode(encoded.strip(), validate=True)
    except ValueError:
        raise HTTPError(401) from None
    known = [hmac.compare_digest(one.encode(), given) for one in handler.application.options.basic_auth]
    if kind.lower() != "basic" or not any(known):
        raise HTTPError(401)
    return True


def serve_no_strangers(flower: Flower, allowed: str) -> None:
    """While anybody may look, refuse host names that a stranger can have chosen, and orders from other sites' pages."""
    from tornado.web import RequestHandler

    hosts = Hosts(allowed.split(","), needless="login", remedy="set LEDGERQ_FLOWER_BASIC_AUTH")
    sampled = SampledLog()
    find = flower.find_handler

    class Refusal(RequestHandler):
        """Answers with the reason."""

        def initialize(self, why: str) -> None:
            """Called by Tornado with the reason of the refusal."""
            self._why = why

        def check_xsrf_cookie(self) -> None:
            """Does nothing, because the request is refused anyway."""

        def prepare(self) -> None:
            """Refuse, whatever the method is."""
            self.set_status(403)
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(self._why + "\n")

    def find_handler(request: Any, **more: Any) -> Any:
        headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request.headers.get_all()
        ]
        try:
            hosts.check(request.method, headers, needs_key=False)
        except LedgerQError as error:
            sampled.note("flower.refused", error.code, address=request.remote_ip)
            return flower.get_handler_delegate(request, Refusal, {"why": error.detail})
        return find(request, **more)

    flower.find_handler = find_handler
