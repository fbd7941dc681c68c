"""One stack, from nothing to removed: what an operator does to it, and what happens to it, under load."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from http.client import HTTPException
from typing import TYPE_CHECKING

import pytest

from tests.compose.conftest import ROOT
from tests.support import http, wait
from tests.support.compose import LONG_RUNNING, ONCE, PUBLISHED, ComposeStack, Load, docker
from tests.support.ports import free_port

if TYPE_CHECKING:
    from typing import Any


def name_of(container: dict[str, Any]) -> str:
    return str(container["Config"]["Labels"]["com.docker.compose.service"])


def test_everything_is_healthy_or_has_done_its_work(stack: ComposeStack):
    found = {name_of(one): one["State"] for one in stack.containers()}
    assert set(found) >= {*LONG_RUNNING, *ONCE}
    assert {name: found[name]["ExitCode"] for name in ONCE} == dict.fromkeys(ONCE, 0)
    assert {name: found[name]["Health"]["Status"] for name in LONG_RUNNING} == dict.fromkeys(LONG_RUNNING, "healthy")


@pytest.mark.parametrize("service", [*LONG_RUNNING, *ONCE])
def test_a_container_has_nothing_that_it_does_not_need(stack: ComposeStack, service: str):
    one = stack.container(service)
    host = one["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["Privileged"] is False
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["LogConfig"]["Config"] == {"max-file": "5", "max-size": "10m"}
    assert one["Config"]["User"] in ("10001:10001", "postgres", "redis")
    assert host["PidsLimit"] == 512
    if service in LONG_RUNNING:
        assert host["Memory"] > 0
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
        assert docker("exec", one["Id"], "id", "-u").strip() != "0"
    ports = [binding for bindings in (host["PortBindings"] or {}).values() for binding in bindings]
    assert {port["HostIp"] for port in ports} == ({"127.0.0.1"} if service in PUBLISHED else set())


def test_no_secret_and_nothing_of_the_users_env_file_is_in_an_environment(stack: ComposeStack):
    secrets = stack.compose(
        "exec", "-T", "postgres", "sh", "-c", "cd /run/ledgerq/secrets && cat postgres_password redis_password"
    ).split()
    assert len(secrets) == 2
    for one in stack.containers():
        environment = "\n".join(one["Config"]["Env"])
        for text in (*secrets, stack.bearer["Authorization"].removeprefix("Bearer "), "hunter2", "localhost"):
            assert text not in environment, name_of(one)
            assert text not in " ".join(one["Args"]), name_of(one)


def test_nobody_gets_in_without_the_key_that_the_first_start_made(stack: ComposeStack):
    assert http.request("GET", stack.url + "/task-types").status == 401
    assert http.answers(stack.url + "/livez")
    [line] = [line for line in stack.compose("logs", "--no-log-prefix", "keys").splitlines() if "shown by" in line]
    shown = stack.sh(line.partition("shown by: ")[2]).stdout.strip()
    assert http.request("GET", stack.url + "/task-types", headers={"X-API-Key": shown}).status == 200


def test_redis_wants_its_password_and_evicts_nothing(stack: ComposeStack):
    refused = stack.compose("exec", "-T", "redis", "redis-cli", "ping")
    assert "NOAUTH" in refused
    asked = 'REDISCLI_AUTH="$(cat /run/ledgerq/secrets/redis_password)" redis-cli info'
    lines = stack.compose("exec", "-T", "redis", "sh", "-c", asked).splitlines()
    values = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert (values["maxmemory_policy"], values["aof_enabled"]) == ("noeviction", "1")
    assert int(values["maxmemory"]) > 0


def test_the_users_smoke_script_finds_no_difference_from_outside(stack: ComposeStack):
    key = stack.bearer["Authorization"].removeprefix("Bearer ")
    done = subprocess.run(
        [sys.executable, "test_task_api.py", "--base-url", stack.url, "--api-key", key, "--timeout", "300"],
        cwd=ROOT, capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert ", 0 differences" in done.stdout


def test_a_module_of_the_users_own_is_mounted_from_a_folder(stack: ComposeStack):
    status = stack.ended(stack.submit("my_tasks.my_custom_task", param1=1, param2=2))
    assert (status["status"], status["result"]) == ("SUCCESS", {"status": "success", "data": [1, 2]})


def test_prometheus_is_provisioned_and_reaches_every_target(stack: ComposeStack, prometheus_image: str):
    stack.compose("--profile", "monitoring", "up", "--detach", "--no-deps", "prometheus")
    found: dict[str, str] = {}

    def all_up() -> bool:
        network = stack.container("prometheus")["NetworkSettings"]["Networks"][f"{stack.project}_services"]
        try:
            answer = http.request("GET", f"http://{network['IPAddress']}:9090/api/v1/targets")
        except (OSError, HTTPException):
            return False
        if answer.status != 200:  # it listens before it has read its configuration
            return False
        found.clear()
        found.update((one["labels"]["job"], one["health"]) for one in answer.json()["data"]["activeTargets"])
        return len(found) >= 4 and set(found.values()) == {"up"}

    wait.until(all_up, 90, interval=0.5, what=lambda: f"{found} {stack.logs()}")
    stack.compose("--profile", "monitoring", "rm", "--stop", "--force", "prometheus")


def test_flower_shows_what_ran_to_whoever_has_the_password(stack: ComposeStack):
    """With the command of the guide."""
    address = f"http://127.0.0.1:{stack.flower_port}/api/tasks"
    assert http.request("GET", address).status == 401
    [command] = [line for line in shell_blocks("Monitoring")[-1].splitlines() if "flower_password" in line]
    login = base64.b64encode(f"ledgerq:{stack.sh(command).stdout.strip()}".encode()).decode()

    def shown() -> bool:
        # Events are sent as soon as a worker knows that somebody listens.
        stack.ended(stack.submit("my_tasks.square", number=5))
        answer = http.request("GET", address, headers={"Authorization": f"Basic {login}"})
        return any(one["name"] == "my_tasks.square" and one["state"] == "SUCCESS" for one in answer.json().values())

    wait.until(shown, 60, interval=0.5, what=stack.logs)


def test_locusts_page_starts_a_load_and_everything_that_it_submits_ends(stack: ComposeStack):
    # Each of its clients waits for its task, so that a slow machine does not get ever more of them.
    stack.sh("LEDGERQ_STACK_LOAD_SCENARIO=watch docker compose --profile load up --detach --no-deps --no-build locust")
    page = f"http://127.0.0.1:{stack.locust_port}"

    def started() -> bool:
        form = {"content-type": "application/x-www-form-urlencoded"}
        try:
            answer = http.request("POST", f"{page}/swarm", b"user_count=3&spawn_rate=3", headers=form)
        except (OSError, HTTPException):
            return False
        return answer.status == 200 and bool(answer.json()["success"])

    def requests(name: str) -> dict[str, int]:
        stats = http.request("GET", f"{page}/stats/requests").json()["stats"]
        return {key: sum(one[key] for one in stats if one["name"] == name) for key in ("num_requests", "num_failures")}

    wait.until(started, 60, interval=0.5, what=stack.logs)
    wait.until(lambda: requests("ended")["num_requests"] >= 5, 90, interval=0.5, what=stack.logs)
    assert requests("submit")["num_failures"] == 0
    stack.compose("--profile", "load", "stop", "locust", timeout=240)
    log = stack.compose("--profile", "load", "logs", "--no-log-prefix", "locust")
    assert "all have ended" in log, log
    stack.compose("--profile", "load", "rm", "--force", "locust")


def test_workers_come_and_go_and_no_task_runs_twice(stack: ComposeStack):
    def workers() -> int:
        return len(stack.call("GET", "/workers").json()["workers"])

    with Load(stack, "my_tasks.work", {"seconds": 0.3}) as load:
        stack.compose("up", "--detach", "--no-recreate", "--no-deps", "--scale", "worker=4", "worker")
        wait.until(lambda: workers() == 4, 90, interval=0.3, what=stack.logs)
        load.more()
        stack.compose("up", "--detach", "--no-recreate", "--no-deps", "--scale", "worker=1", "worker")
        wait.until(lambda: workers() == 1, 90, interval=0.3, what=stack.logs)
        load.more()
    load.all_succeeded()
    attempts = {stack.call("GET", f"/tasks/{task_id}/status").json()["attempt"] for task_id in load.accepted}
    assert attempts == {1}


def test_kill_9_of_each_container_under_load_is_followed_by_its_restart_and_loses_nothing(stack: ComposeStack):
    with Load(stack, "my_tasks.work", {"seconds": 0.1}) as load:
        for service in LONG_RUNNING:
            before = stack.container(service)["RestartCount"]
            stack.kill_main_process(service)
            wait.until(
                lambda service=service, before=before: (
                    stack.container(service)["RestartCount"] > before and stack.container(service)["State"]["Running"]
                ),
                60,
                interval=0.2,
                what=f"the restart of {service}",
            )
            stack.answers()
            load.more()
    load.all_succeeded()


def test_docker_kill_of_each_container_under_load_and_one_up_lose_nothing(stack: ComposeStack):
    with Load(stack, "my_tasks.work", {"seconds": 0.1}) as load:
        for service in LONG_RUNNING:
            docker("kill", stack.container(service)["Id"])
            stack.compose("up", "--detach", "--no-recreate", "--no-deps", service)
            stack.answers()
            load.more()
    load.all_succeeded()
    stack.healthy()


def test_redis_emptied_and_postgresql_restarted_under_load_lose_nothing(stack: ComposeStack):
    # The services' user has no right to flush.
    flush = (
        'export REDISCLI_AUTH="$(cat /run/ledgerq/secrets/redis_password)"; '
        "redis-cli --scan | xargs -r -d '\\n' redis-cli del"
    )
    with Load(stack, "my_tasks.work", {"seconds": 0.2}) as load:
        stack.compose("exec", "-T", "redis", "sh", "-c", flush)
        docker("restart", stack.container("redis")["Id"])
        load.more()
        docker("restart", stack.container("postgres")["Id"])
        stack.answers()
        load.more()
    load.all_succeeded()


def test_the_guides_backup_can_be_restored_as_it_says(stack: ComposeStack):
    back_up, restore = shell_blocks("Back up and restore")
    kept = stack.submit("my_tasks.my_custom_task", param1="before", param2="the backup")
    assert stack.ended(kept)["status"] == "SUCCESS"
    stack.sh(back_up)
    later = stack.submit("my_tasks.square", number=3)
    assert stack.ended(later)["result"] == 9
    stack.sh(restore, timeout=300)
    stack.answers()
    assert stack.ended(kept)["result"] == {"status": "success", "data": ["before", "the backup"]}
    assert stack.call("GET", f"/tasks/{later}/status").status == 404
    assert stack.ended(stack.submit("my_tasks.square", number=4))["result"] == 16


def shell_blocks(heading: str) -> list[str]:
    """What a section of the guide says to type."""
    guide = (ROOT / "docs" / "guides" / "compose.md").read_text("utf-8")
    section = guide.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def test_the_guides_development_stack_runs_what_is_in_the_source_tree(stack: ComposeStack):
    [command] = shell_blocks("Develop")
    ports = " ".join(f"LEDGERQ_STACK_DEV_{name}_PORT={free_port()}" for name in ("POSTGRES", "REDIS"))
    assert command.endswith("up --watch\n")
    stack.sh(f"{ports} {command.replace('--watch', '--no-build --detach --wait --wait-timeout 240')}", timeout=300)
    for service, package in (("api", "ledgerq_api"), ("worker", "ledgerq_worker"), ("monitor", "ledgerq_monitor")):
        where = stack.compose("exec", "-T", service, "python", "-c", f"import {package}; print({package}.__file__)")
        assert where.startswith("/source/service/"), service
    assert stack.ended(stack.submit("my_tasks.square", number=6))["result"] == 36


def test_down_keeps_the_volumes_and_down_v_removes_them(stack: ComposeStack):
    task_id = stack.submit("my_tasks.square", number=7)
    assert stack.ended(task_id)["result"] == 49
    key = stack.bearer
    stack.compose("down", timeout=240)
    listing = ("volume", "ls", "--quiet", "--filter", f"label=com.docker.compose.project={stack.project}")
    kept = docker(*listing).split()
    assert {name.removeprefix(f"{stack.project}_") for name in kept} >= {"postgres", "redis", "secrets", "access"}
    stack.compose("up", "--detach", "--wait", "--wait-timeout", "240", timeout=300)
    stack.key = ""
    assert stack.bearer == key
    assert stack.ended(task_id)["result"] == 49
    stack.compose("--profile", "*", "down", "--volumes", timeout=240)
    assert not docker(*listing).split()
    assert not docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={stack.project}")
