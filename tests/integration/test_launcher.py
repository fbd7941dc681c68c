from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from ledgerq_shared.embedded.processes import of_launch, read_record
from tests.support import http, wait
from tests.support.launcher import launch, recorded
from tests.support.ports import free_port


@pytest.fixture
def stores(database, redis_database):
    return {"DATABASE_URL": database, "REDIS_URL": redis_database}


def pids(running):
    return [process.pid for process in of_launch(running.token)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_stops_everything_and_leaves_no_process(bare_stack, stores, number):
    running = launch(bare_stack, "--run-monitor", **stores)
    running.says("LedgerQ is running.")
    # API, worker, its pool child, maintenance, monitor, Flower
    wait.until(lambda: len(running.descendants()) == 6, what=running.log)
    for stray in (signal.SIGUSR1, signal.SIGUSR2):
        running.send(stray)
    running.send(number)
    assert running.wait() == 0
    assert pids(running) == []
    assert recorded(bare_stack.folder / ".ledgerq") == []


def test_ctrl_c_during_the_start_leaves_no_process(bare_stack):
    running = launch(bare_stack)
    wait.until(lambda: running.descendants() or not running.alive())
    running.send(signal.SIGINT)
    assert running.wait() == 0
    assert pids(running) == []


def test_a_second_ctrl_c_does_not_wait_for_a_stubborn_worker(bare_stack, stores):
    running = launch(bare_stack, STANDIN_WORKER="stubborn", LEDGERQ_GRACE_SECONDS="3600", **stores)
    running.says("standin run up")
    running.says("LedgerQ is running.")
    running.send(signal.SIGINT)
    running.says("stopping")
    running.send(signal.SIGINT)
    assert running.wait() == 0
    assert pids(running) == []


def test_the_screen_says_where_everything_is_and_what_to_try(bare_stack, stores):
    port = str(free_port())
    metrics = free_port()
    running = launch(
        bare_stack, "--run-monitor", LEDGERQ_MONITOR_PORT=port, LEDGERQ_METRICS_PORT=str(metrics), **stores
    )
    text = running.says("Stop with Ctrl-C")
    assert f"{running.url}/docs" in text
    assert f"curl -s {running.url}/tasks/submit" in text
    assert "process_document" in text
    assert "long_running" in text
    assert f"http://127.0.0.1:{port}/health" in text
    assert f"{metrics} (worker), {metrics + 1} (maintenance)" in text
    assert "2 from standin.tasks" in text
    assert stores["DATABASE_URL"].split(":")[2].split("@")[0] not in text


def test_the_screen_speaks_chinese_where_the_locale_says_so(bare_stack, stores):
    running = launch(bare_stack, LEDGERQ_LOCALE="zh", **stores)
    text = running.says("Ctrl-C 停止")
    assert "正在运行" in text
    assert "2 个来自 standin.tasks" in text


def test_the_command_on_the_screen_shows_moving_progress(bare_stack):
    running = launch(bare_stack, standins=False)
    text = running.says("Stop with Ctrl-C", timeout=90)
    [command] = re.findall(r"^(  ID=.*\n.*\n.*\n)", text, re.MULTILINE)
    command = command.replace("1000000000", "100000000")
    bash = shutil.which("bash")
    assert bash
    shown = subprocess.run([bash, "-c", command], capture_output=True, text=True, check=True, timeout=60).stdout
    figures = [float(line.partition(":")[2].partition(",")[0]) for line in shown.splitlines()]
    assert figures == sorted(figures)
    assert len(set(figures)) > 2
    assert figures[-1] == 100
    assert running.stop() == 0


def test_flags_choose_what_runs(bare_stack, stores):
    running = launch(bare_stack, "--no-worker", **stores)
    running.says("LedgerQ is running.")
    assert len(running.descendants()) == 1
    running.stop()
    running = launch(bare_stack, "--no-api", "--run-worker", **stores)
    running.says("LedgerQ is running.")
    running.says("standin maintenance up")
    assert not http.answers(running.url)
    running.stop()


def test_flags_reach_the_services(bare_stack, stores):
    running = launch(
        bare_stack,
        "--debug",
        "--api-reload",
        "--worker-concurrency",
        "3",
        "--worker-loglevel",
        "WARNING",
        **stores,
    )
    running.says("concurrency 3, level warning")
    running.says("LedgerQ is running.")
    told = http.request("GET", f"{running.url}/environment").body.decode()
    assert "LEDGERQ_DEBUG=true" in told
    assert "LEDGERQ_API_RELOAD=true" in told
    assert "LEDGERQ_LOG_LEVEL" not in told
    assert f"LEDGERQ_API_PORT={running.url.rpartition(':')[2]}" in told


def test_an_env_file_configures_and_the_environment_wins_over_it(bare_stack, stores):
    lines = [f"{name}={value}" for name, value in stores.items()]
    lines += ["CELERY_BROKER_URL=", "LEDGERQ_LOCALE=en", "LEDGERQ_WORKER_NAME=from-file"]
    (bare_stack.folder / ".env").write_text("\n".join(lines))
    running = launch(bare_stack, LEDGERQ_WORKER_NAME="from-environment")
    assert "as configured" in running.says("Stop with Ctrl-C")
    told = http.request("GET", f"{running.url}/environment").body.decode()
    assert "LEDGERQ_LOCALE=en" in told
    assert "LEDGERQ_WORKER_NAME=from-environment" in told


def test_a_service_that_dies_is_started_again(bare_stack, stores):
    running = launch(bare_stack, **stores)
    running.says("LedgerQ is running.")
    first = int(http.request("GET", running.url).body)
    os.kill(first, signal.SIGKILL)
    running.says("the API ended (SIGKILL); it starts again")
    wait.until(lambda: http.answers(running.url))
    assert int(http.request("GET", running.url).body) != first


def test_a_service_that_refuses_its_configuration_stops_the_launcher_with_exit_code_2(bare_stack, stores):
    running = launch(bare_stack, STANDIN_API="refuse", **stores)
    assert running.wait() == 2
    assert "standin: no such setting" in running.log()
    assert running.log().splitlines()[-1].startswith("ledgerq: the API refuses its configuration")
    assert pids(running) == []


def test_embedded_servers_are_used_when_nothing_is_configured_and_keep_their_data(bare_stack):
    running = launch(bare_stack)
    text = running.says("Stop with Ctrl-C")
    assert "embedded PostgreSQL and Valkey" in text
    names = {process.name for process in recorded(bare_stack.folder / ".ledgerq")}
    assert names == {"launcher", "API", "worker", "maintenance", "postgres", "valkey"}
    assert (bare_stack.folder / ".ledgerq" / "urls.env").stat().st_mode & 0o777 == 0o600
    assert running.stop() == 0
    assert pids(running) == []
    assert recorded(bare_stack.folder / ".ledgerq") == []
    assert (bare_stack.folder / ".ledgerq" / "postgres" / "PG_VERSION").exists()


def test_the_next_start_ends_what_a_kill_9_of_the_launcher_left(bare_stack):
    first = launch(bare_stack)
    first.says("LedgerQ is running.")
    left = recorded(bare_stack.folder / ".ledgerq")
    first.kill()
    assert sum(process.alive() for process in left) == 5  # all but the launcher
    assert first.descendants()
    second = launch(bare_stack)
    second.says("ended a worker that an earlier launcher left behind")
    second.says("LedgerQ is running.")
    assert not any(process.alive() for process in left)
    assert pids(first) == []
    assert second.stop() == 0
    assert pids(second) == []


def test_a_second_launcher_on_the_same_embedded_servers_is_refused_and_harms_nothing(bare_stack):
    first = launch(bare_stack)
    first.says("LedgerQ is running.")
    second = launch(bare_stack)
    assert second.wait() == 1
    assert f"in use by process {first.pid}" in second.log().splitlines()[-1]
    assert http.answers(first.url)


def test_two_launchers_on_configured_stores_live_side_by_side(bare_stack, stores):
    api = launch(bare_stack, "--no-worker", **stores)
    api.says("LedgerQ is running.")
    worker = launch(bare_stack, "--no-api", **stores)
    worker.says("LedgerQ is running.")
    assert worker.stop() == 0
    assert http.answers(api.url)


@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_an_embedded_server_that_dies_is_started_again_where_it_was_and_work_goes_on(bare_stack, name):
    folder = bare_stack.folder / ".ledgerq"
    said = {"postgres": "PostgreSQL", "valkey": "Valkey"}[name]
    running = launch(bare_stack, standins=False)
    running.says("LedgerQ is running.", timeout=120)
    urls = (folder / "urls.env").read_text()
    for times in (1, 2):
        [server] = read_record(folder / "run" / f"{name}.json")[0]
        server.send(signal.SIGKILL)
        again = f"ledgerq: {said} is there again"
        wait.until(lambda times=times, again=again: running.log().count(again) == times, 60, what=running.log)
    body = {"task_type": "clients.celery.example_tasks.flaky", "task_parameters": {"failures": 0}}
    task_id = _submitted(running, body)
    wait.until(
        lambda: http.request("GET", f"{running.url}/tasks/{task_id}/status").json().get("status") == "SUCCESS",
        60,
        what=running.log,
    )
    assert (folder / "urls.env").read_text() == urls
    lines = [line for line in running.log().splitlines() if line.startswith(f"ledgerq: {said}")]
    assert lines[0] == f"ledgerq: {said} has ended; it starts again in 0.5 s"
    assert lines[-1] == f"ledgerq: {said} is there again"
    running.send(signal.SIGINT)
    assert running.wait() == 0
    assert recorded(folder) == []


def _submitted(running, body):
    def accepted():
        answer = http.request("POST", f"{running.url}/tasks/submit", body)
        return answer.json()["task_id"] if answer.status == 202 else None

    return wait.until(accepted, 60, what=running.log)


def test_on_a_persons_screen_a_healthy_start_says_nothing_before_the_addresses_and_nothing_after_them(bare_stack):
    flower = str(free_port())
    running = launch(
        bare_stack, "--run-monitor", standins=False, LEDGERQ_LOG_FORMAT="console", LEDGERQ_FLOWER_PORT=flower
    )
    running.says("Stop with Ctrl-C", timeout=90)
    # Flower has looked for workers; at its first look there were none yet.
    wait.until(lambda: b"ledgerq@" in http.request("GET", f"http://127.0.0.1:{flower}/workers").body, 60)
    assert running.stop() == 0
    lines = [line for line in running.log().splitlines() if line.strip()]
    assert lines[0].startswith("ledgerq: starting")
    assert lines[1].startswith("LedgerQ is running")
    after = lines[next(at for at, line in enumerate(lines) if "Stop with Ctrl-C" in line) + 1 :]
    assert after[0] == "ledgerq: stopping (again Ctrl-C: at once)"


def test_what_goes_wrong_stands_below_the_addresses_in_short_local_times(bare_stack):
    running = launch(
        bare_stack, "--worker-concurrency", "1", standins=False, LEDGERQ_LOG_FORMAT="console", TZ="Asia/Shanghai"
    )
    running.says("Stop with Ctrl-C", timeout=90)
    body = {"task_type": "clients.celery.example_tasks.fail_on_purpose", "task_parameters": {"message": "so be it"}}
    http.request("POST", f"{running.url}/tasks/submit", body)
    text = running.says("so be it")
    [line] = [line for line in text.splitlines() if re.match(r"\d\d:\d\d:\d\d ", line)][:1]
    hour = datetime.now(ZoneInfo("Asia/Shanghai")).hour
    assert int(line[:2]) in {hour, (hour - 1) % 24}
    assert running.stop() == 0
