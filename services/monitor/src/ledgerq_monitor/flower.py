"""``ledgerq-flower``: Celery's Flower, configured for LedgerQ. Its pages show LedgerQ's tasks and not the drains.

Workers send it events about the tasks inside drains; it reads the other tasks from the ledger (`flower_tasks`), for
which it needs SELECT. It is read only unless the settings say otherwise; then its orders go through the workers, which
cancel in the ledger and adopt the tasks that it sends.
"""

from __future__ import annotations

import base64
import hmac
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Literal, Self

from celery import Celery
from pydantic import Field, FiniteFloat, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ledgerq_monitor import flower_pages
from ledgerq_monitor.collectors.collector import Ledger, open_ledger
from ledgerq_monitor.flower_tasks import LedgerTasks
from ledgerq_shared import output
from ledgerq_shared.errors import LedgerQError
from ledgerq_shared.hosts import Hosts
from ledgerq_shared.listening import BOTH
from ledgerq_shared.logging import configure
from ledgerq_shared.redis_access import celery_broker, celery_result_backend
from ledgerq_shared.sampling import SampledLog
from ledgerq_shared.settings import LogSettings, SettingsError, StoreSettings, is_loopback, load
from ledgerq_shared.signals import treat_as_sigterm

if TYPE_CHECKING:
    from flower.app import Flower

_OAUTH_HANDLERS = {
    "google": "flower.views.auth.GoogleAuth2LoginHandler",
    "github": "flower.views.auth.GithubLoginHandler",
    "gitlab": "flower.views.auth.GitLabLoginHandler",
    "okta": "flower.views.auth.OktaLoginHandler",
}

#: Seconds that one statement about the ledger's tasks may take.
_LEDGER_SECONDS = 5.0

_ABORT = "The ledger knows no abort: cancel the task (POST /tasks/{task_id}/cancel, or Revoke here)."


class FlowerStores(StoreSettings):
    """Where Redis and the ledger are; without the ledger, Flower shows only what workers send."""

    # pydantic-settings would validate the default, too, and this one is not a URL.
    database_url: str = Field("", validate_default=False)


class EventSettings(BaseSettings):
    """Settings that Flower shares with the workers that send it events."""

    model_config = SettingsConfigDict(env_prefix="LEDGERQ_", extra="ignore")

    events_per_second: FiniteFloat = Field(
        100.0,
        ge=0,
        description="Most new tasks a second that Flower takes from the ledger, as many as it hears of from a worker; more "
        "at once follow in the next minute, or are left out. 0: none.",
    )


class HostSettings(BaseSettings):
    """Settings that Flower shares with the API."""

    model_config = SettingsConfigDict(env_prefix="LEDGERQ_", extra="ignore")

    allowed_hosts: str = Field(
        "",
        description="Names under which Flower may be called while it asks for no login, beside loopback names and "
        "addresses, as for the API.",
    )


class FlowerSettings(BaseSettings):
    """Where Flower listens, who may look, and whether they may do more than that."""

    model_config = SettingsConfigDict(env_prefix="LEDGERQ_FLOWER_", extra="ignore")

    host: str = Field("127.0.0.1", description="Address of Flower; any but loopback needs basic auth or OAuth.")
    port: int = Field(5555, ge=1, le=65535, description="Port of Flower.")
    url_prefix: str = Field("", description="Path under which a proxy shows it, such as `flower`.")
    basic_auth: SecretStr | None = Field(None, description="`user:password`; several separated by commas.")
    oauth_provider: Literal["google", "github", "gitlab", "okta"] | None = Field(
        None, description="Log in there instead; then the other OAuth settings are needed."
    )
    oauth_key: str | None = Field(None, description="OAuth client id.")
    oauth_secret: SecretStr | None = Field(None, description="OAuth client secret.")
    oauth_redirect_uri: str | None = Field(None, description="Where the provider sends people back to: `…/login`.")
    oauth_emails: str | None = Field(None, description="Who may: `a@x.org|b@x.org`, or `.*@x.org`.")
    cookie_secret: SecretStr | None = Field(
        None, description="Signs the logins of OAuth; random at each start unless set, so that people log in again."
    )
    read_only: bool = Field(True, description="Nobody can revoke, send or control anything here.")
    max_tasks: int = Field(10_000, ge=1, le=1_000_000, description="Tasks kept in memory; older ones leave the page.")
    inspect_timeout: float = Field(2.0, gt=0, le=60, description="Seconds to wait for workers' answers.")

    @model_validator(mode="after")
    def _check_access(self) -> Self:
        if self.oauth_provider and not (
            self.oauth_key and self.oauth_secret and self.oauth_redirect_uri and self.oauth_emails
        ):
            raise ValueError(
                "LEDGERQ_FLOWER_OAUTH_PROVIDER needs LEDGERQ_FLOWER_OAUTH_KEY, _SECRET, _REDIRECT_URI and _EMAILS"
            )
        if any(":" not in one for one in self.credentials):
            raise ValueError("LEDGERQ_FLOWER_BASIC_AUTH: `user:password` is expected, several separated by commas")
        if not (self.credentials or self.oauth_provider or is_loopback(self.host)):
            raise ValueError(
                f"LEDGERQ_FLOWER_HOST={self.host} is not a loopback address, and anybody could look: set "
                "LEDGERQ_FLOWER_BASIC_AUTH or LEDGERQ_FLOWER_OAUTH_PROVIDER, or listen on 127.0.0.1"
            )
        return self

    @property
    def credentials(self) -> list[str]:
        """Those of basic auth, each ``user:password``."""
        text = "" if self.basic_auth is None else self.basic_auth.get_secret_value()
        return [one.strip() for one in text.split(",") if one.strip()]


def main() -> None:
    """Serve until SIGTERM or SIGINT; an error that prevents this is one line and exit 2."""
    output.guard()
    try:
        settings, stores, logs = load(FlowerSettings), load(FlowerStores), load(LogSettings)
        rate = load(EventSettings).events_per_second
        configure(logs, service="flower", prints=dict)
        logging.getLogger("tornado.access").setLevel(logging.WARNING)
        logging.getLogger("flower.inspector").addFilter(_is_trouble)
        # This variable would open Flower's API to anybody who reaches the port, even to pages of other sites.
        os.environ.pop("FLOWER_UNAUTHENTICATED_API", None)
        flower = build(settings, stores)
        try:
            flower.start_http_server()
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {settings.host} port {settings.port}: {error.strerror} "
                "(LEDGERQ_FLOWER_HOST, LEDGERQ_FLOWER_PORT)"
            ) from None
    except SettingsError as error:
        output.tell(f"ledgerq-flower: {error}")
        sys.exit(2)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: flower.io_loop.add_callback_from_signal(flower.io_loop.stop))
    treat_as_sigterm()
    if stores.database_url:
        ledger = _open_ledger(stores)
        flower.io_loop.spawn_callback(LedgerTasks(flower.events.state, ledger, rate=rate).follow)
    flower.start()
    flower.stop()


def _open_ledger(stores: StoreSettings) -> Ledger:
    return open_ledger(stores, application_name="ledgerq-flower", size=1, timeout=_LEDGER_SECONDS)


def _is_trouble(record: logging.LogRecord) -> bool:
    """Leaves out that no worker answered, which Flower says at each start: it starts together with the workers."""
    return record.msg != "Inspect method %s failed"


def build(settings: FlowerSettings, stores: StoreSettings) -> Flower:
    """Flower's application; nothing listens yet.

    Raises:
        SettingsError: Flower is not installed.
    """
    try:
        from flower import urls
        from flower.app import Flower
        from flower.options import options
        from flower.utils import prepend_url
    except ModuleNotFoundError as error:
        raise SettingsError(f"Flower is not installed (no module {error.name!r}): ledgerq-monitor[flower]") from None
    _set_options(options, settings)
    flower_pages.add_fields()
    web: dict[str, Any] = dict(urls.settings)
    if settings.cookie_secret is not None:
        web["cookie_secret"] = settings.cookie_secret.get_secret_value()
    if settings.url_prefix:
        for name in ("login_url", "static_url_prefix"):
            web[name] = prepend_url(web[name], settings.url_prefix)
    if settings.oauth_provider:
        assert settings.oauth_secret is not None
        web["oauth"] = {
            "key": settings.oauth_key,
            "secret": settings.oauth_secret.get_secret_value(),
            "redirect_uri": settings.oauth_redirect_uri,
        }
    flower = Flower(capp=_celery(stores), options=options, **web)
    _replace_pages(flower, settings.url_prefix, _open_ledger(stores) if stores.database_url else None)
    if not settings.credentials and not settings.oauth_provider:
        _serve_no_strangers(flower, load(HostSettings).allowed_hosts)
    return flower


def _set_options(options: Any, settings: FlowerSettings) -> None:
    # Tornado takes `::` for IPv6 only, and an empty address for all addresses of both kinds.
    host = settings.host.strip("[]")
    options.address, options.port = "" if host == BOTH else host, settings.port
    options.url_prefix = settings.url_prefix or None
    options.basic_auth = settings.credentials
    options.read_only = settings.read_only
    options.max_tasks = settings.max_tasks
    options.inspect_timeout = settings.inspect_timeout * 1000
    options.purge_offline_workers = 300
    options.tasks_columns = flower_pages.COLUMNS
    options.format_task = flower_pages.format_task
    options.enable_events = False  # workers notice by themselves that somebody listens
    if settings.oauth_provider:
        options.auth = settings.oauth_emails
        options.auth_provider = _OAUTH_HANDLERS[settings.oauth_provider]


def _celery(stores: StoreSettings) -> Celery:
    app = Celery("ledgerq-flower", set_as_current=False)
    app.conf.update(
        celery_broker(stores.broker_url) | celery_result_backend(stores.result_backend),
        accept_content=["json"],
        result_accept_content=["json"],
        # Tasks that it sends go to a queue that workers serve; nobody serves Celery's own default queue.
        task_default_queue="default",
        broker_connection_retry_on_startup=True,
    )
    return app


def _replace_pages(flower: Flower, url_prefix: str, ledger: Ledger | None) -> None:
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


def _serve_no_strangers(flower: Flower, allowed: str) -> None:
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


if __name__ == "__main__":
    main()
