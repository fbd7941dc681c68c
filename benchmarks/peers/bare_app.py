"""Bare FastAPI: a Pydantic model parsed, a dict returned; the same uvicorn options as LedgerQ's API."""

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Body(BaseModel):
    """The same body as a submit."""

    task_type: str
    task_parameters: dict[str, Any]


@app.post("/tasks/submit", status_code=202)
async def submit(body: Body) -> dict[str, str]:
    return {"task_id": body.task_type, "status": "PENDING", "message": "ok"}


@app.get("/tasks/{task_id}/status")
async def status(task_id: str) -> dict[str, str]:
    return {"task_id": task_id, "status": "SUCCESS"}


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), http="httptools", ws="none", access_log=False, log_level="warning",
        server_header=False, proxy_headers=False,
    )  # fmt: skip
