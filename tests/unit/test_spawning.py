"""A program is started while another thread forks, as Celery does when it replaces a pool process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

#: Forks children that stay, while the main thread starts programs. Without the lock it stands still within a second:
#: a child has the end of the pipe by which Popen waits for its program.
_PROGRAM = """
import os, signal, sys, threading
from ledgerq_worker.node.spawning import spawn

sys.setswitchinterval(1e-6)
children, done = [], threading.Event()

def fork():
    while not done.is_set() and len(children) < 400:
        child = os.fork()
        if not child:
            signal.pause()
        children.append(child)

forking = threading.Thread(target=fork)
forking.start()
while forking.is_alive():
    process = spawn(["true"])
    process.stdin.close()
    process.wait()
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
print("spawned")
"""


def test_starting_a_program_does_not_wait_for_a_process_that_another_thread_forks_meanwhile():
    program = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _PROGRAM], stdout=subprocess.PIPE, text=True, process_group=0
    )
    try:
        said, _ = program.communicate(timeout=60)
    finally:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait()
    assert said == "spawned\n"
