"""``/scaling``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from ledgerq_api.documentation import answers
from ledgerq_api.requests.lean import json_response
from ledgerq_api.requests.query import CheckedRoute
from ledgerq_api.scaling.service import ScalingService, Target

_EXAMPLE: dict[str, Any] = {
    "backlog": 1200,
    "running": 8,
    "oldest_seconds": 14.2,
    "drain_seconds": 75.0,
    "desired_workers": 3,
}

_Queue = Annotated[str, Query(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]


def router(service: ScalingService, *, drain_seconds: float, run_seconds: float) -> APIRouter:
    """The call.

    Args:
        drain_seconds, run_seconds: the settings; see :class:`~ledgerq_api.scaling.service.Target`.
    """
    routes = APIRouter(tags=["queues"], default_response_class=Response, route_class=CheckedRoute)

    @routes.get(
        "/scaling",
        summary="How many workers queues need",
        responses=answers(200, "Scaling", "The demand.", _EXAMPLE, errors=(422, 503)),
    )
    async def show_scaling(
        queue: Annotated[
            list[_Queue] | None,
            Query(max_length=100, description="Queue; several times for all queues that the same workers serve."),
        ] = None,
        slots_per_worker: Annotated[
            int | None,
            Query(ge=1, le=10_000, description="Slots of a worker; as the latest of the queue has, unless given."),
        ] = None,
        target_seconds: Annotated[
            float | None,
            Query(
                gt=0,
                le=86_400,
                allow_inf_nan=False,
                description="Seconds in which a backlog should be drained; `LEDGERQ_SCALING_DRAIN_SECONDS` unless given.",
            ),
        ] = None,
    ) -> Response:
        """For KEDA's `metrics-api` scaler and its like; `default` is asked for unless `queue` is given.

        Slots needed = backlog x run time / target time, at most one for each waiting task, beside busy slots that will
        stay busy, and never fewer than are busy. Workers = slots needed / slots of a worker, rounded up. The run time is the
        mean of recent tasks of the queue. A paused queue wants no worker beyond the busy ones.
        """
        target = Target(target_seconds or drain_seconds, run_seconds, slots_per_worker)
        return json_response(await service.demand(queue or ["default"], target), cache="no-store")

    return routes
