"""A worker node in its Celery parent process: the slot table, the lease agent beside it, and how they end."""

from __future__ import annotations

import dataclasses
import json
import socket
import subprocess
import sys
import threading

import structlog

from ledgerq_worker.node.config import NodeConfig
from ledgerq_worker.node.deafness import Reconnect
from ledgerq_worker.node.slot_standstill import Unaccepted
from ledgerq_worker.node.spawning import spawn
from ledgerq_worker.slot.table import SlotTable

log = structlog.get_logger()

#: Seconds between two looks at the agent.
_LOOK_AT_AGENT_EVERY = 0.5
#: Seconds that the agent may take for its farewell; it waits for PostgreSQL if it has to.
_END_WITHIN = 30.0
_AGENTS_TRIED = 2


class Node:
    """Starts the agent, starts it anew if it dies, and tells it what happens in the parent.

    Args:
        table: shared with the pool's processes and the agent.
        config: the agent's configuration.
    """

    def __init__(self, table: SlotTable, config: NodeConfig) -> None:
        self.table = table
        #: How many pool processes died in a drain.
        self.lost_processes = 0
        self._config = config
        self._agent: subprocess.Popen[bytes] | None = None
        # Reentrant, because a signal handler in the main thread may write while that thread is writing.
        self._lock = threading.RLock()
        self._is_ended = threading.Event()
        self.reconnect = Reconnect()
        #: Looks after idle processes; None: there is no pool, or it has no processes.
        self.unaccepted: Unaccepted | None = None

    def start(self) -> None:
        """Start the agent; it registers the node."""
        with self._lock:
            self._spawn()
        threading.Thread(target=self._keep, name="agent-keeper", daemon=True).start()

    def lost(self, pid: int | None) -> None:
        """Note that a pool process died in a drain."""
        self.lost_processes += 1
        if pid is not None and not self._is_ended.is_set():
            self._tell(f"lost {pid}")

    def stopping(self) -> None:
        """Tell the agent that the node claims nothing more; running tasks may end."""
        if not self.table.is_stopping:
            self.table.is_stopping = True
            self._tell("stopping")

    def stopped(self) -> None:
        """Tell the agent that the pool has ended: it returns what is left and ends, too."""
        self._end("stopped")

    def abandon(self) -> None:
        """End without waiting: the agent kills the pool processes and returns what they ran, charged with no death."""
        self._end("abandoned")

    def _end(self, word: str) -> None:
        self._is_ended.set()  # the deaths to come are not reported
        with self._lock:
            for _ in range(_AGENTS_TRIED):
                if self._agent is None or self._agent.poll() == 0:
                    return  # the agent was told before
                if self._agent.poll() is not None:
                    self._spawn()
                self._write(word)
                if self._has_agent_ended():
                    return

    def _has_agent_ended(self) -> bool:
        """Wait for the agent; returns False if it was killed before it had done what it was told."""
        assert self._agent is not None
        try:
            return self._agent.wait(timeout=_END_WITHIN) == 0
        except subprocess.TimeoutExpired:
            log.warning("worker.agent.slow_to_end", pid=self._agent.pid)
            return True

    def _spawn(self) -> None:
        handle = self.table.handle
        if not self.table.is_at_its_path:
            log.warning(
                "worker.slot_file.deleted",
                path=str(self.table.path),
                what="somebody deleted the slot file: the node goes on with what it has open",
            )
        self._agent = spawn(
            [sys.executable, "-P", "-m", "ledgerq_worker.node.agent"], inherit=() if handle is None else (handle,)
        )
        self._write(json.dumps(dataclasses.asdict(dataclasses.replace(self._config, table_handle=handle))))

    def _tell(self, line: str) -> None:
        with self._lock:
            self._write(line)

    def _write(self, line: str) -> None:
        try:
            assert self._agent is not None
            assert self._agent.stdin is not None
            self._agent.stdin.write(line.encode() + b"\n")
        except BrokenPipeError:
            log.warning("worker.agent.gone", unsaid=line)

    def _keep(self) -> None:
        while not self._is_ended.wait(_LOOK_AT_AGENT_EVERY):
            try:
                self._look()
            except (
                Exception
            ):  # no memory, process or file is available just now; it is tried again, because nobody else would do it
                log.exception("worker.agent_keeper.failed")

    def _look(self) -> None:
        """Replace an agent that died; the new one goes on under the node's id."""
        with self._lock:
            if self._agent is not None and self._agent.poll() is not None and not self._is_ended.is_set():
                log.warning("worker.agent.restarted", exit_code=self._agent.returncode)
                self._spawn()
        if self.table.is_deaf:
            self.table.is_deaf = False
            self.reconnect.connect_or_give_up(self.table.tickets, self.table.busy_slots)
        if self.unaccepted is not None:
            self.unaccepted.look()


def hostname() -> str:
    """This machine's name, as lists of workers show it."""
    return socket.gethostname()
