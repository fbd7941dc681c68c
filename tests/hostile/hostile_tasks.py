"""What the honest load runs. Copied into the workers' folder; each run writes a line past the ledger."""

import os

from celery import shared_task


@shared_task(bind=True)
def work(self, number, filling=""):
    handle = os.open(os.environ.get("HOSTILE_JOURNAL", "/tmp/journal"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, f"{self.request.id}\n".encode())
    finally:
        os.close(handle)
    return number
