"""API keys: who may call what, and how soon that changes."""

from __future__ import annotations

import concurrent.futures
import re
import time
import uuid
from typing import TYPE_CHECKING, NamedTuple

import pytest
from fastapi.routing import iter_route_contexts

from ledgerq_api.auth.key_scopes import KeyScope
from ledgerq_api.auth.scopes import NEEDS, OPEN
from ledgerq_api.requests.lean import LeanPaths
from tests.support import api as api_support
from tests.support import databases, http, keys, wait
from tests.support.api import ANYTHING
from tests.support.proxy import Proxy
from tests.support.sse import EventStream

if TYPE_CHECKING:
    from tests.support.api import Api

BODY = {"task_type": ANYTHING, "task_parameters": {}}


class Keyed(NamedTuple):
    """An API with one key for each scope: scope → (id, headers)."""

    api: Api
    of: dict[KeyScope, tuple[str, dict[str, str]]]

    def headers(self, scope: KeyScope) -> dict[str, str]:
        return self.of[scope][1]

    def actor(self, scope: KeyScope) -> str:
        return f"key:{self.of[scope][0]}"

    def submit(self, **more: object) -> str:
        answer = self.api.post("/tasks/submit", {**BODY, **more}, headers=self.headers(KeyScope.SUBMIT))
        assert answer.status == 202, answer.body
        return str(answer.json()["task_id"])

    def events(self, task_id: str) -> list[tuple[str, str]]:
        answer = self.api.get(f"/tasks/{task_id}/events", headers=self.headers(KeyScope.READ))
        return [(event["kind"], event["actor"]) for event in answer.json()["events"]]


@pytest.fixture
def keyed(database, redis_database):
    api_support.register(database, *api_support.CATALOGUE)
    of = {}
    for scope in KeyScope:
        key_id, key = keys.make(database, scope)
        of[scope] = (key_id, keys.bearer(key))
    with api_support.serve(database, redis_database) as api:
        yield Keyed(api, of)


def code_of(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status, answer.json()["code"]


def refused(api, key_headers):
    return api.get("/queues", headers=key_headers).status == 401


def test_every_route_of_the_application_has_its_scope(api):
    routes = set()
    for context in iter_route_contexts(api.app.router.routes):
        path = re.sub(r":\w+}", "}", context.path)
        assert context.methods, f"{path}: a kind of route whose methods nobody knows"
        routes |= {(method, path) for method in context.methods if method != "HEAD"}
    [lean] = [middleware.kwargs for middleware in api.app.user_middleware if middleware.cls is LeanPaths]
    routes |= {(method, route.path) for route in lean["routes"] for method in route.answered - {"HEAD"}}
    secured = {(method, path) for method, path in routes if path not in OPEN}
    assert len(secured) > 20
    assert secured <= set(NEEDS)


def test_every_documented_call_says_its_scope_and_admits_just_that(keyed):
    document = http.request("GET", f"{keyed.api.url}/openapi.json").json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    seen = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            target = path.replace("{task_id}", str(uuid.uuid4())).replace("{name}", "nobody")
            needed = {scope for way in operation["security"] for scopes in way.values() for scope in scopes}

            def call(headers, target=target, method=method):
                body = b"{}" if method in {"post", "put"} else None
                return http.request(method.upper(), keyed.api.url + target, body, headers=headers)

            if not needed:
                assert path in OPEN
                assert call({}).status == 200
                continue
            without = call({})
            assert code_of(without) == (401, "api_key_missing"), path
            assert without.headers["www-authenticate"].startswith("Bearer")
            assert without.headers["x-request-id"]
            for scope in KeyScope:
                answer = call({"Content-Type": "application/json", **keyed.headers(scope)})
                if {scope} == needed or scope is KeyScope.ADMIN:
                    assert answer.status not in {401, 403}, (path, scope)
                else:
                    assert code_of(answer) == (403, "scope_missing"), (path, scope)
                    assert answer.json()["scope"] in needed
                    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
            seen += 1
    assert seen > 18


@pytest.mark.parametrize(
    "headers",
    [
        keys.bearer("lq_" + "x" * 43),
        keys.bearer("ä"),
        {"X-API-Key": "nonsense"},
        {"X-API-Key": "x" * 10_000},
    ],
)
def test_an_unknown_key_is_401(keyed, headers):
    answer = keyed.api.get("/tasks/", headers=headers)
    assert code_of(answer) == (401, "api_key_invalid")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("headers", [{"Authorization": "Basic dTpw"}, {"Authorization": "Bearer"}, {"X-API-Key": " "}])
def test_what_is_no_key_at_all_is_told_how_to_send_one(keyed, headers):
    answer = keyed.api.get("/tasks/", headers=headers)
    assert code_of(answer) == (401, "api_key_missing")
    assert "X-API-Key" in answer.json()["detail"]


def test_a_key_may_come_in_either_header(keyed):
    key = keyed.headers(KeyScope.READ)["Authorization"].removeprefix("Bearer ")
    for headers in ({"X-API-Key": key}, {"Authorization": f"bearer  {key}"}):
        assert keyed.api.get("/queues", headers=headers).status == 200


def test_a_path_that_leads_nowhere_is_404_with_a_key_and_says_nothing_without(keyed):
    assert code_of(keyed.api.get("/nowhere", headers=keyed.headers(KeyScope.READ))) == (404, "not_found")
    assert code_of(keyed.api.get("/nowhere")) == (401, "api_key_missing")
    wrong = http.request("DELETE", f"{keyed.api.url}/tasks/submit", headers=keyed.headers(KeyScope.READ))
    assert code_of(wrong) == (405, "method_not_allowed")


def test_a_call_that_somebody_forgot_to_enter_in_the_table_needs_admin(keyed):
    keyed.api.app.add_api_route("/forgotten", lambda: "open")
    for scope in set(KeyScope) - {KeyScope.ADMIN}:
        assert code_of(keyed.api.get("/forgotten", headers=keyed.headers(scope))) == (403, "scope_missing")
    assert keyed.api.get("/forgotten", headers=keyed.headers(KeyScope.ADMIN)).status == 200


@pytest.mark.parametrize("path", ["", "/", "/index.html", "/zh/guides/tasks/", "/search/search_index.json"])
def test_a_browser_which_has_no_key_may_read_the_documentation(keyed, path):
    answer = http.request("GET", f"{keyed.api.url}/docs/guide{path}")
    assert answer.status in {200, 307, 404}, answer.body  # 404: `make docs` has not built that page here


def test_the_keys_id_is_the_actor_of_everything_that_it_causes(keyed):
    submit, control = keyed.actor(KeyScope.SUBMIT), keyed.actor(KeyScope.CONTROL)
    task_id = keyed.submit()
    for call in ("cancel", "retry"):
        answer = keyed.api.post(f"/tasks/{task_id}/{call}", {}, headers=keyed.headers(KeyScope.CONTROL))
        assert answer.status == 202, answer.body
    assert keyed.events(task_id) == [("submitted", submit), ("revoked", control), ("resubmitted", control)]
    again = keyed.api.post(f"/tasks/{task_id}/rerun", {}, headers=keyed.headers(KeyScope.ADMIN)).json()["task_id"]
    assert keyed.events(again) == [("submitted", keyed.actor(KeyScope.ADMIN))]
    batch = keyed.api.post("/tasks/submit/batch", {"tasks": [BODY]}, headers=keyed.headers(KeyScope.SUBMIT)).json()
    assert keyed.events(batch["tasks"][0]["task_id"]) == [("submitted", submit)]


def test_who_replaces_a_unique_task_is_named_also_when_submits_of_several_share_a_commit(keyed):
    old = [keyed.submit(unique_key=f"key {number}") for number in range(20)]
    submitters = [KeyScope.SUBMIT, KeyScope.ADMIN]

    def replace(number):
        body = {**BODY, "unique_key": f"key {number}", "unique_policy": "replace"}
        return keyed.api.post("/tasks/submit", body, headers=keyed.headers(submitters[number % 2])).status

    with concurrent.futures.ThreadPoolExecutor(20) as clients:
        assert set(clients.map(replace, range(20))) == {202}
    for number, task_id in enumerate(old):
        assert keyed.events(task_id)[-1] == ("revoked", keyed.actor(submitters[number % 2]))


def test_a_new_key_works_at_once_and_a_revoked_one_only_for_seconds(keyed):
    key_id, key = keys.make(keyed.api.database_url, KeyScope.READ)
    assert keyed.api.get("/queues", headers=keys.bearer(key)).status == 200
    with keys.store(keyed.api.database_url) as store:
        assert store.revoke(key_id)
    wait.until(lambda: refused(keyed.api, keys.bearer(key)), 30, what="the key is refused")
    assert not refused(keyed.api, keyed.headers(KeyScope.READ))


def test_a_key_ends_at_its_time(keyed):
    _, key = keys.make(keyed.api.database_url, KeyScope.READ, expires_in=4.0)
    assert keyed.api.get("/queues", headers=keys.bearer(key)).status == 200
    wait.until(lambda: refused(keyed.api, keys.bearer(key)), 30, what="the key is refused")


def test_revoking_a_key_ends_its_streams_and_long_polls(keyed):
    key_id, key = keys.make(keyed.api.database_url, KeyScope.READ)
    task_id = keyed.submit(countdown=3600)
    status = f"/tasks/{task_id}/status"
    headers = {**keys.bearer(key), "Prefer": "wait=20", "If-None-Match": '"1"'}
    with (
        EventStream(f"{keyed.api.url}/tasks/{task_id}/stream", sent=keys.bearer(key)) as stream,
        EventStream(f"{keyed.api.url}/tasks/{task_id}/stream", sent=keyed.headers(KeyScope.READ)) as other,
        concurrent.futures.ThreadPoolExecutor(1) as clients,
    ):
        stream.until("submitted")
        polled = clients.submit(keyed.api.get, status, headers=headers)
        with keys.store(keyed.api.database_url) as store:
            store.revoke(key_id)
        stream.until_over()
        keyed.api.post(f"/tasks/{task_id}/cancel", {}, headers=keyed.headers(KeyScope.CONTROL))
        assert code_of(polled.result()) == (401, "api_key_invalid")
        other.until_over()
    assert stream.kinds() == ["submitted"]
    assert other.kinds() == ["submitted", "revoked"]


def test_nobody_needs_a_key_until_one_is_made_and_then_for_good(api):
    task_id = api.submit()
    assert api.get(f"/tasks/{task_id}/events").json()["events"][0]["actor"] == "api"
    key_id, key = keys.make(api.database_url, KeyScope.ADMIN)
    wait.until(lambda: refused(api, {}), 30, what="a key is needed")
    with keys.store(api.database_url) as store:
        store.revoke(key_id)
    wait.until(lambda: refused(api, keys.bearer(key)), 30, what="the last key is refused")
    assert refused(api, {})
    databases.execute(api.database_url, "DELETE FROM api_key")
    for _ in range(3):
        assert refused(api, keys.bearer(key))  # each a fresh look at the ledger, which has no keys at all now
    assert refused(api, {})


def test_a_public_address_without_consent_is_never_open(database, redis_database):
    with api_support.serve(database, redis_database, api_host="0.0.0.0") as api:
        assert refused(api, {})
        assert api.get("/readyz").status == 200


def test_a_ledger_that_has_had_keys_is_closed_whatever_anonymity_is_allowed(database, redis_database):
    key_id, _ = keys.make(database, KeyScope.ADMIN)
    with keys.store(database) as store:
        store.revoke(key_id)
    with api_support.serve(database, redis_database, api_host="0.0.0.0", allow_anonymous=True) as api:
        assert refused(api, {})


def test_a_flood_of_bad_keys_does_not_reach_postgresql(keyed):
    ring = keyed.api.services.keyring
    looks = []
    read = ring._rows
    ring._rows = lambda used: looks.append(time.monotonic()) or read(used)
    begun = time.monotonic()

    def knock(number):
        return keyed.api.get("/queues", headers=keys.bearer(f"lq_{number:043}")).status

    with concurrent.futures.ThreadPoolExecutor(50) as clients:
        assert set(clients.map(knock, range(500))) == {401}
    # A look for unknown keys every half second, and the usual one every second.
    assert 0 < len(looks) <= (time.monotonic() - begun) * (1 / 0.5 + 1 / 1.0) + 2
    assert len(looks) < 250
    assert keyed.api.get("/queues", headers=keyed.headers(KeyScope.READ)).status == 200


def test_a_key_that_asks_too_often_is_told_when_to_go_on(database, redis_database):
    key_id, key = keys.make(database, KeyScope.READ)
    _, other = keys.make(database, KeyScope.READ)
    with api_support.serve(database, redis_database, key_rate=0.1, key_burst=3) as api:
        assert [api.get("/queues", headers=keys.bearer(key)).status for _ in range(3)] == [200] * 3
        answer = api.get("/queues", headers=keys.bearer(key))
        assert code_of(answer) == (429, "rate_limited")
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        assert key_id in answer.json()["detail"]
        assert api.get("/queues", headers=keys.bearer(other)).status == 200
        assert api.get("/livez").status == 200


def test_the_use_of_a_key_is_written_down_coarsely(keyed):
    key_id = keyed.of[KeyScope.READ][0]
    used = "SELECT last_used_at FROM api_key WHERE id = %s"

    def seen():
        keyed.api.get("/queues", headers=keyed.headers(KeyScope.READ))
        return databases.rows(keyed.api.database_url, used, (key_id,))[0][0]

    first = wait.until(seen, 30, what="the use of the key is in the ledger")
    assert (first.second, first.microsecond) == (0, 0)
    assert seen() == first
    others = databases.rows(keyed.api.database_url, "SELECT last_used_at FROM api_key WHERE id <> %s", (key_id,))
    assert set(others) == {(None,)}


def test_known_keys_are_believed_while_postgresql_is_away_and_unknown_ones_are_503(database, redis_database):
    _, key = keys.make(database, KeyScope.READ)
    with Proxy(database) as proxy, api_support.serve(proxy.url, redis_database, ledger_timeout=2.0) as api:
        assert api.get("/health", headers=keys.bearer(key)).status == 200
        proxy.__exit__(None, None, None)
        wait.until(
            lambda: api.get("/health", headers=keys.bearer(key)).status == 503,
            20,
            what="/health tells of the outage",
        )
        unknown = api.get("/health", headers=keys.bearer("lq_" + "y" * 43))
        assert code_of(unknown) == (503, "ledger_unavailable")
        assert code_of(api.get("/health")) == (401, "api_key_missing")


def test_without_any_look_at_the_ledger_nobody_is_let_in(redis_database):
    with api_support.serve("postgresql://nobody@127.0.0.1:1/nothing", redis_database, ledger_timeout=2.0) as api:
        for path in ("/queues", "/metrics"):  # the latter would be answered without a ledger
            assert code_of(api.get(path)) == (503, "ledger_unavailable")
        assert api.get("/livez").status == 200
