"""`helm test`: has a real document processed through the Service, as a client would. Needs nothing but Python."""

import json
import os
import sys
import time
import urllib.error
import urllib.request

URL = os.environ["LEDGERQ_URL"]
SECONDS = float(os.environ.get("LEDGERQ_TEST_SECONDS", "120"))
BODY = {
    "task_type": os.environ["LEDGERQ_TEST_TASK_TYPE"],
    "task_parameters": json.loads(os.environ["LEDGERQ_TEST_PARAMETERS"]),
}


def call(path, body=None):
    headers = {"Content-Type": "application/json", "Accept-Language": "en", "Prefer": "wait=10"}
    key = os.environ.get("LEDGERQ_API_KEY")
    if key:
        headers["Authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(URL + path, data, headers), timeout=30) as answer:
        return json.load(answer)


def until_final(task_id, deadline):
    while True:
        status = call(f"/tasks/{task_id}/status")
        if status["status"] in ("SUCCESS", "FAILURE", "REVOKED") or time.monotonic() > deadline:
            return status
        time.sleep(0.2)


def main():
    deadline = time.monotonic() + SECONDS
    try:
        task_id = call("/tasks/submit", BODY)["task_id"]
        print(f"accepted: {task_id}", flush=True)
        status = until_final(task_id, deadline)
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.url}: {error.code} {error.read().decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"{URL}: {error}")
    print(json.dumps(status, ensure_ascii=False, indent=2))
    if status["status"] != "SUCCESS":
        sys.exit(f"{task_id} is {status['status']} after {SECONDS:g} s; GET /tasks/{task_id}/explain says why")


main()
