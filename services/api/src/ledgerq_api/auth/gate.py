"""The gate: before anything reads a request, its sender must be known and must be allowed to send it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from ledgerq_api.answers import problems
from ledgerq_api.answers.errors import ApiKeyInvalid, ApiKeyMissing, RateLimited
from ledgerq_api.answers.refusal_counts import note_refusal
from ledgerq_api.auth.callers import ANYBODY, NOBODY_IN_PARTICULAR, Caller
from ledgerq_api.auth.key_scopes import KeyScope
from ledgerq_api.auth.keyring import ApiKey, Keyring
from ledgerq_api.auth.rates import Bucket
from ledgerq_api.auth.scopes import is_open, known_need
from ledgerq_api.requests.paths import shown
from ledgerq_shared.errors import LedgerQError, ScopeMissing
from ledgerq_shared.hosts import Hosts
from ledgerq_shared.languages import say

_KEY = "ledgerq_key"
_CHALLENGE = 'Bearer realm="ledgerq"'


class Gate:
    """Lets a request through if it has a key with the scope that its call needs; refuses the others.

    Args:
        rate: requests a second that each key may make to this process; 0: any number.
        burst: requests that a key may make at once.
        hosts: the host names under which the server may be called.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring, *, hosts: Hosts, rate: float = 0.0, burst: float = 0.0) -> None:
        self._app = app
        self._keyring = keyring
        self._hosts = hosts
        self._rate = rate
        self._burst = max(burst or rate, 1.0)
        self._buckets: dict[str, Bucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "lifespan" and not is_open(scope["path"]):
            try:
                now = time.monotonic()
                if not self._keyring.is_fresh(now):
                    await self._keyring.refreshed()
                needs_key = self._keyring.is_required
                if needs_key:
                    await self._check(scope, now)
                self._hosts.check(scope["method"], scope["headers"], needs_key=needs_key)
            except LedgerQError as error:
                if error.status < 500:
                    client = scope.get("client")
                    note_refusal(error, client[0] if client else "", path=shown(scope["path"])[:200])
                answer = problems.render(error, scope["path"], _headers(error))
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _check(self, scope: Scope, now: float) -> None:
        text = _key_in(scope["headers"])
        key = self._keyring.find(text) or await self._keyring.find_surely(text)
        if key is None:
            raise ApiKeyInvalid
        scope[_KEY] = key
        needed = known_need(scope["method"], scope["path"]) or _need_of_unknown(scope)
        if needed is not None and not key.may(needed):
            has = ", ".join(sorted(key.scopes))
            raise ScopeMissing(
                say("This call needs the scope {needed}; the key {id} has {has}.", needed=needed, id=key.id, has=has),
                scope=needed,
            )
        if self._rate:
            self._limit(key, now)

    def _limit(self, key: ApiKey, now: float) -> None:
        bucket = self._buckets.get(key.id)
        if bucket is None:
            bucket = self._buckets[key.id] = Bucket(self._rate, self._burst, now)
        if wait := bucket.take(now):
            raise RateLimited(
                say("The key {id} may make {rate:g} requests a second.", id=key.id, rate=self._rate), retry_after=wait
            )


def actor_of(scope: Scope) -> str:
    """Who sends the request, for the event log: ``key:<id>``, or ``api`` while nobody needs a key."""
    key: ApiKey | None = scope.get(_KEY)
    return ANYBODY if key is None else key.actor


def caller_of(scope: Scope) -> Caller:
    """Who sends the request, and what the sender may do to others' tasks."""
    key: ApiKey | None = scope.get(_KEY)
    return NOBODY_IN_PARTICULAR if key is None else key.caller


async def check_again(scope: Scope, keyring: Keyring) -> None:
    """Check that the key of a request that has waited long is still usable.

    Raises:
        ApiKeyInvalid
    """
    key: ApiKey | None = scope.get(_KEY)
    if key is not None and await keyring.still(key) is None:
        raise ApiKeyInvalid


def _key_in(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    for name, value in headers:
        if name == b"authorization":
            kind, _, key = value.partition(b" ")
            if kind.lower() == b"bearer" and key.strip():
                return bytes(key.strip())
        elif name == b"x-api-key" and value.strip():
            return bytes(value.strip())
    raise ApiKeyMissing


def _need_of_unknown(scope: Scope) -> KeyScope | None:
    """A call that is in no table needs admin, unless its path does not exist, which the router answers."""
    for route in scope["app"].router.routes:
        if route.matches(scope)[0] is Match.FULL:
            return KeyScope.ADMIN
    return None


def _headers(error: LedgerQError) -> dict[str, str]:
    if isinstance(error, ApiKeyMissing):
        return {"WWW-Authenticate": _CHALLENGE}
    if isinstance(error, ApiKeyInvalid):
        return {"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'}
    if isinstance(error, ScopeMissing):
        return {"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope", scope="{error.extra["scope"]}"'}
    if isinstance(error, RateLimited):
        return {"Retry-After": str(max(1, math.ceil(error.extra["retry_after"])))}
    return {}
