"""HAProxy before the servers of a cluster, configured by docs/guides/high-availability.md."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Self

from tests.support import guides
from tests.support.ports import free_port

if TYPE_CHECKING:
    from types import TracebackType

    from tests.support.patroni import Cluster


def program() -> str | None:
    """Where HAProxy is, as `scripts/test-ha` found it; None: nowhere."""
    return os.environ.get("HA_HAPROXY") or shutil.which("haproxy")


class HAProxy:
    """One address at which the cluster's leader answers. A context manager."""

    def __init__(self, cluster: Cluster, program: str) -> None:
        self._cluster = cluster
        self._program = program
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address, as one URL."""
        return self._cluster.url_of(f"127.0.0.1:{self._port}")

    def __enter__(self) -> Self:
        """Start it with the guide's configuration, which it must find without a fault."""
        path = self._cluster.folder / "haproxy.cfg"
        path.write_text(self._configuration())
        subprocess.run([self._program, "-c", "-f", str(path)], check=True, capture_output=True)
        self._process = self._cluster.spawn("haproxy", self._program, "-db", "-f", str(path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def _configuration(self) -> str:
        text = guides.block(guides.HIGH_AVAILABILITY, "listen ", "haproxy")
        text = text.replace("bind :5432", f"bind 127.0.0.1:{self._port}")
        for number, node in enumerate(self._cluster.nodes, 1):
            place = f"db{number}:5432 check port 8008"
            assert place in text, text
            text = text.replace(place, f"127.0.0.1:{node.port} check port {node.rest_port}")
        return text
