"""What teams build by hand: FastAPI, a SQLModel row for each task, Celery's `send_task` after the commit."""

import os
import sys
import uuid
from datetime import UTC, datetime
from typing import Any

import uvicorn
from celery import Celery
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import JSON, Column
from sqlmodel import Field, Session, SQLModel, create_engine

engine = create_engine(
    os.environ["BENCH_DATABASE"].replace("postgresql://", "postgresql+psycopg2://"), pool_size=20, max_overflow=20
)
celery = Celery(broker=os.environ["BENCH_REDIS"])
app = FastAPI()


class HandmadeTask(SQLModel, table=True):
    """The row that the status is read from."""

    id: uuid.UUID = Field(primary_key=True)
    task_type: str = Field(index=True)
    status: str = Field(default="PENDING", index=True)
    parameters: dict[str, Any] = Field(sa_column=Column(JSON))
    result: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON))
    submitted_at: datetime


class Body(BaseModel):
    """The same body as a submit."""

    task_type: str
    task_parameters: dict[str, Any]


@app.post("/tasks/submit", status_code=202)
def submit(body: Body) -> dict[str, str]:
    task_id = uuid.uuid4()
    with Session(engine) as session:
        session.add(
            HandmadeTask(
                id=task_id, task_type=body.task_type, parameters=body.task_parameters, submitted_at=datetime.now(UTC)
            )
        )
        session.commit()
    celery.send_task(body.task_type, kwargs=body.task_parameters, task_id=str(task_id))
    return {"task_id": str(task_id), "status": "PENDING", "message": "ok"}


@app.get("/tasks/{task_id}/status")
def status(task_id: uuid.UUID) -> dict[str, Any]:
    with Session(engine) as session:
        task = session.get(HandmadeTask, task_id)
        if task is None:
            raise HTTPException(404)
        return {
            "task_id": str(task.id),
            "status": task.status,
            "result": task.result,
            "submitted_at": task.submitted_at,
        }


@app.get("/livez")
async def livez() -> dict[str, str]:
    return {"status": "ok"}


if __name__ == "__main__":
    SQLModel.metadata.create_all(engine)
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), http="httptools", ws="none", access_log=False, log_level="warning",
        server_header=False, proxy_headers=False,
    )  # fmt: skip
