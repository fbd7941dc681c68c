"""``register`` succeeds; ``run`` has a child of its own, as a pool has; both tell what they were told."""

import os
import signal
import subprocess
import sys

command = sys.argv[1]
if command == "register":
    if os.environ.get("STANDIN_REGISTER") == "fail":
        print("standin: cannot import tasks", file=sys.stderr)
        sys.exit(1)
    print('{"task_types": ["standin.tasks.one", "standin.tasks.two"], "changed": 2}')
    sys.exit(0)
print(
    f"standin {command} up, concurrency {os.environ.get('LEDGERQ_WORKER_CONCURRENCY')}, "
    f"level {os.environ.get('LEDGERQ_LOG_LEVEL')}",
    flush=True,
)
for number in (signal.SIGTERM, signal.SIGINT):
    if os.environ.get("STANDIN_WORKER") == "stubborn":
        signal.signal(number, signal.SIG_IGN)
    else:
        signal.signal(number, lambda *_: sys.exit(0))
if command == "run":
    # in a session of its own and deaf, so that only its token gives it away
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
    subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True)
while True:
    signal.pause()
