"""A store is away, or full: every process says so once, `/health` and `explain` know it, and afterwards work goes on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from shutil import which
from typing import TYPE_CHECKING

import pytest
import redis

from tests.support import databases, http, wait
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ledgerq_shared.embedded import EmbeddedPostgres, EmbeddedValkey
    from tests.chaos.support.plant import Plant
    from tests.support.stack import Running

pytestmark = pytest.mark.chaos

_QUICK = {"task_type": "chaos_tasks.quick"}


def submit(api: Running, **fields: object) -> http.Response:
    return http.request("POST", f"{api.url}/tasks/submit", {**_QUICK, **fields})


def findings(api: Running, task_id: str) -> list[str]:
    answer = http.request("GET", f"{api.url}/tasks/{task_id}/explain").json()
    return [finding["code"] for finding in answer["findings"]]


def health(api: Running) -> dict[str, object]:
    return dict(http.request("GET", f"{api.url}/health").json())


def outage(api: Running, store: str, what: str) -> float:
    return outage_of(api.url, store, what)


def outage_of(url: str, store: str, what: str) -> float:
    body = http.request("GET", f"{url}/metrics").body.decode()
    found = re.search(rf'^ledgerq_store_outage\{{store="{store}",what="{what}"\}} (.+)$', body, re.MULTILINE)
    assert found
    return float(found[1])


def lines(running: Running, event: str) -> int:
    return running.log().count(f'"event": "{event}"')


def test_while_redis_is_away_everybody_says_so_once_and_explain_knows(plant_on_valkey: Plant, valkey: EmbeddedValkey):
    plant = plant_on_valkey
    maintenance = plant.maintenance()
    plant.stack.register()
    worker = plant.worker()
    api = plant.stack.api()
    valkey.stop()
    accepted = submit(api)
    assert accepted.status == 202
    task_id = accepted.json()["task_id"]
    assert findings(api, task_id) == ["redis_away"]
    assert health(api)["status"] == "degraded"
    wait.until(lambda: lines(maintenance, "store.away") and lines(worker, "store.away") >= 2, what="they notice")
    wait.until(lambda: outage(api, "redis", "answers") == 1.0, what="the metric")
    valkey.start()
    wait.until(lambda: plant.row(task_id).state == "SUCCESS", 60, what=worker.log)
    wait.until(lambda: lines(maintenance, "store.is_back"), what=maintenance.log)
    assert health(api)["status"] == "healthy"
    assert [lines(running, "store.away") for running in (api, maintenance)] == [1, 1]
    assert not re.search(
        "broker.unavailable|broker_unavailable|Trying again", maintenance.log() + worker.log() + api.log()
    )


def test_while_postgresql_is_away_everybody_says_so_once(plant_on_postgres: Plant, postgres: EmbeddedPostgres):
    plant = plant_on_postgres
    maintenance = plant.maintenance()
    plant.stack.register()
    worker = plant.worker()
    monitor = plant.stack.monitor()
    api = plant.stack.api()
    postgres.stop()
    for running in (api, monitor):
        http.request("GET", f"{running.url}/health")
        http.request("GET", f"{running.url}/metrics")
    everybody = (api, worker, maintenance, monitor)
    wait.until(lambda: all(lines(running, "store.away") for running in everybody), 60, what=plant.stack.logs)
    assert http.request("GET", f"{api.url}/readyz").status == 503
    postgres.start()
    wait.until(lambda: submit(api).status == 202, 60, what="a submit")
    plant.all_ended()
    wait.until(lambda: lines(maintenance, "store.is_back"), what=maintenance.log)
    assert [lines(running, "store.away") for running in (api, maintenance)] == [1, 1]


@pytest.mark.parametrize("store", ["postgres", "valkey"])
def test_of_a_nodes_processes_only_agent_and_parent_say_that_a_store_is_away(
    store: str, request: pytest.FixtureRequest
):
    plant: Plant = request.getfixturevalue(f"plant_on_{store}")
    server: EmbeddedPostgres | EmbeddedValkey = request.getfixturevalue(store)
    plant.maintenance()
    plant.stack.register()
    port = free_port()
    worker = plant.worker(slots=6, LEDGERQ_METRICS_PORT=str(port))
    api = plant.stack.api()
    for _ in range(60):  # all processes of the pool have work
        assert submit(api).status == 202
    server.stop()
    wait.until(lambda: lines(worker, "store.away"), 60, what=worker.log)
    name = "postgresql" if store == "postgres" else "redis"
    node = f"http://127.0.0.1:{port}"
    wait.until(lambda: outage_of(node, name, "answers") == 1.0, 60, what="the node's own port")
    server.start()
    wait.until(lambda: submit(api).status == 202, 60, what="a submit")
    plant.all_ended()
    wait.until(lambda: lines(worker, "store.is_back"), 60, what=worker.log)
    wait.until(lambda: outage_of(node, name, "answers") == 0.0, 60, what="the node's own port")
    said = [json.loads(line) for line in worker.log().splitlines() if '"event": "store.away"' in line]
    told = [line["service"] for line in said]
    assert told.count("agent") <= 1, worker.log()
    assert told.count("worker") <= 1, worker.log()


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"0" * 4096)


@pytest.fixture
def small_disk(workspace: Path) -> Iterator[Path]:
    """A disk of 32 MB that PostgreSQL may write to."""
    folder = workspace / "small"
    folder.mkdir()
    mount, unmount = (which(name) or name for name in ("mount", "umount"))
    command = [mount, "-t", "tmpfs", "-o", "size=32m,mode=777", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs root, to mount a small disk")
    yield folder
    subprocess.run([unmount, "--lazy", str(folder)], check=True)


def test_a_full_disk_is_named_by_submits_health_metric_and_log_until_there_is_room_again(
    plant_on_postgres: Plant, postgres: EmbeddedPostgres, small_disk: Path
):
    plant = plant_on_postgres
    owner = postgres.data_folder().stat()
    os.chown(small_disk, owner.st_uid, owner.st_gid)
    databases.execute(plant.database_url, f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    databases.execute(plant.database_url, "ALTER TABLE task SET TABLESPACE small")
    plant.stack.register()
    api = plant.stack.api()
    filler = small_disk / "filler"
    fill(filler)
    large = {"x": os.urandom(20_000).hex()}
    refused = submit(api, metadata=large)
    assert (refused.status, refused.json()["code"]) == (503, "ledger_full")
    assert "No space left" in refused.json()["detail"]
    assert "disk is full" in refused.json()["title"]
    said = health(api)
    assert said["status"] == "degraded"
    assert "No space left" in str(said["checks"])
    ready = http.request("GET", f"{api.url}/readyz")
    assert (ready.status, ready.json()["checks"]["ledger"]["status"]) == (200, "degraded")
    assert "No space" not in str(ready.json()), "strangers may ask it"
    assert outage(api, "postgresql", "writes") == 1.0
    assert submit(api, metadata=large).status == 503
    assert lines(api, "store.refuses_writes") == 1
    filler.unlink()
    accepted = submit(api, metadata=large)
    assert accepted.status == 202
    assert health(api)["status"] == "healthy"
    assert outage(api, "postgresql", "writes") == 0.0
    assert lines(api, "store.takes_writes") == 1


def test_a_redis_without_memory_is_named_and_work_goes_on_when_it_has_some(
    plant_on_valkey: Plant, valkey: EmbeddedValkey
):
    plant = plant_on_valkey
    maintenance = plant.maintenance()
    plant.stack.register()
    plant.worker()
    api = plant.stack.api()
    with redis.Redis.from_url(plant.redis_url) as client:
        client.config_set("maxmemory", 1)
        task_id = submit(api).json()["task_id"]
        wait.until(lambda: "redis_refuses" in findings(api, task_id), what=api.log)
        said = health(api)
        assert said["status"] == "degraded"
        assert "maxmemory" in str(said["checks"])
        wait.until(lambda: lines(maintenance, "store.refuses_writes"), what=maintenance.log)
        client.config_set("maxmemory", 0)
        plant.all_ended()
    wait.until(lambda: lines(maintenance, "store.takes_writes"), what=maintenance.log)
    assert lines(maintenance, "store.refuses_writes") == 1


def test_a_redis_that_cannot_save_is_named_tasks_are_accepted_and_work_goes_on_when_it_can(
    plant_on_valkey: Plant, valkey: EmbeddedValkey
):
    plant = plant_on_valkey
    maintenance = plant.maintenance()
    plant.stack.register()
    worker = plant.worker()
    api = plant.stack.api()
    with redis.Redis.from_url(plant.redis_url) as client:
        snapshot = valkey.data_folder() / client.config_get("dbfilename")["dbfilename"]
        snapshot.unlink(missing_ok=True)
        snapshot.mkdir()  # root may write everywhere, and no file can take the place of a folder
        client.config_set("save", "3600 1")
        client.bgsave()
        wait.until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", 30)
        with pytest.raises(redis.RedisError, match="MISCONF"):
            client.set("any", "thing")
        accepted = [submit(api) for _ in range(5)]
        assert [answer.status for answer in accepted] == [202] * 5
        task_id = accepted[0].json()["task_id"]
        wait.until(lambda: "redis_refuses" in findings(api, task_id), what=api.log)
        said = health(api)
        assert said["status"] == "degraded"
        assert "MISCONF" in str(said["checks"])
        assert outage(api, "redis", "writes") == 1.0
        for running in (maintenance, worker):
            wait.until(lambda running=running: lines(running, "store.refuses_writes"), 60, what=running.log)
        assert http.request("GET", f"{api.url}/tasks/{task_id}/status").json()["status"] == "PENDING"
        snapshot.rmdir()
        wait.until(lambda: _saves(client), 30)
    plant.all_ended()
    wait.until(lambda: lines(maintenance, "store.takes_writes"), 60, what=maintenance.log)
    assert lines(maintenance, "store.refuses_writes") == 1
    wait.until(lambda: health(api)["status"] == "healthy", 60, what=lambda: str(health(api)))
    assert worker.alive()
    assert "worker.deaf_for_good" not in worker.log()


def _saves(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.ResponseError):  # one is on its way
        client.bgsave()
    return bool(client.info("persistence")["rdb_last_bgsave_status"] == "ok")
