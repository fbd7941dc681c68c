"""A real Prometheus: Debian's package, unpacked where it is not installed; and short ways to ask it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest

from ledgerq_shared.embedded.processes import TOKEN_VARIABLE
from tests.support import http, wait
from tests.support.ports import free_port
from tests.support.servers import locked

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "deploy" / "helm" / "ledgerq" / "files" / "alerts"
DASHBOARDS = ROOT / "deploy" / "helm" / "ledgerq" / "files" / "dashboards"
_UNPACKED = ROOT / ".tools" / "prometheus"
_DOWNLOADS = ROOT / ".tools" / "prometheus.new"


@cache
def program(name: str) -> str:
    """The path of ``prometheus`` or ``promtool``.

    Where it is not installed, Debian's package is unpacked into `.tools` (installing it would start a daemon). Skips the
    test where there is no apt.
    """
    installed = shutil.which(name)
    if installed:
        return installed
    unpacked = _UNPACKED / "usr" / "bin" / name
    if not unpacked.exists():
        _unpack()
    return str(unpacked)


def _unpack() -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("Prometheus is not installed, and this system has no apt to get it with")
    _UNPACKED.parent.mkdir(parents=True, exist_ok=True)
    with locked(_UNPACKED.with_suffix(".lock")):
        if _UNPACKED.exists():
            return
        _DOWNLOADS.mkdir(exist_ok=True)
        if not _downloaded():
            # The lists may be missing or old.
            subprocess.run(["apt-get", "update"], check=False, capture_output=True)  # noqa: S607
            if not _downloaded():
                pytest.skip("Prometheus is not installed, and apt does not find it")
        package, *_ = _DOWNLOADS.glob("prometheus_*.deb")
        unpacked = _DOWNLOADS / "unpacked"
        subprocess.run(["dpkg-deb", "-x", str(package), str(unpacked)], check=True)  # noqa: S607
        unpacked.rename(_UNPACKED)  # whole: others look without the lock
        shutil.rmtree(_DOWNLOADS)


def _downloaded() -> bool:
    done = subprocess.run(
        ["apt-get", "download", "prometheus"],  # noqa: S607
        cwd=_DOWNLOADS,
        check=False,
        capture_output=True,
    )
    return done.returncode == 0 and bool(list(_DOWNLOADS.glob("prometheus_*.deb")))


def promtool(*arguments: str | Path, told: bytes | None = None) -> str:
    """Run promtool, which must have nothing to complain about; what it said."""
    done = subprocess.run([program("promtool"), *map(str, arguments)], input=told, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


class Prometheus:
    """One server that scrapes ``targets`` (job → ``host:port``) every second; it ends with the run of ``token``."""

    def __init__(self, folder: Path, targets: Mapping[str, str], *, token: str, rules: str | None = None) -> None:
        self._token = token
        self._folder = folder
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        configuration: dict[str, Any] = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in targets.items()
            ],
        }
        if rules is not None:
            (folder / "rules.yml").write_text(rules)
            configuration["rule_files"] = ["rules.yml"]
        # JSON is YAML.
        (folder / "prometheus.yml").write_text(json.dumps(configuration))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it is ready."""
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program("prometheus"),
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'prometheus'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                    "--log.level=warn",
                ],
                env={**os.environ, TOKEN_VARIABLE: self._token},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait.until(lambda: http.answers(f"{self.url}/-/ready"), 60, what=self.log)

    def stop(self) -> None:
        """Kill it: its data are of no further use."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def log(self) -> str:
        """What it wrote."""
        return (self._folder / "prometheus.log").read_text(errors="replace")

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """What the expression is now: labels and value of each series."""
        answer = http.request("GET", f"{self.url}/api/v1/query?{urlencode({'query': expression}, quote_via=quote)}")
        body = answer.json()
        assert body["status"] == "success", f"{expression}: {body}"
        result = body["data"]["result"]
        if body["data"]["resultType"] == "scalar":
            return [({}, float(result[1]))]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def firing(self) -> dict[str, dict[str, Any]]:
        """The alerts that fire, by name."""
        alerts = http.request("GET", f"{self.url}/api/v1/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"]: alert for alert in alerts if alert["state"] == "firing"}
