"""What the launcher says to a person, in both languages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Language = Literal["zh", "en"]


@dataclass(frozen=True)
class Texts:
    """The words of the screen."""

    starting: str
    running: str
    look_first: str
    task_types: str
    of_module: str
    worker: str
    with_maintenance: str
    no_worker: str
    monitor: str
    health: str
    metrics: str
    also_at: str
    data: str
    embedded: str
    configured: str
    their_urls: str
    document: str
    try_it: str
    stop: str
    stopping: str


TEXTS: dict[Language, Texts] = {
    "en": Texts(
        starting="starting ...",
        running="LedgerQ is running.",
        look_first="look here first",
        task_types="task types",
        of_module="{count} from {module}",
        worker="worker",
        with_maintenance="running, with maintenance",
        no_worker="not started (--no-worker)",
        monitor="monitor",
        health="health",
        metrics="metrics",
        also_at="{place}; /metrics also on ports {ports}",
        data="data",
        embedded="{folder} (embedded PostgreSQL and Valkey)",
        configured="PostgreSQL and Redis as configured",
        their_urls="their URLs",
        document="Try it in a second terminal: a 15-page document, really read",
        try_it="Watch it work: some ten seconds, with moving progress",
        stop="Stop with Ctrl-C; the data stay.",
        stopping="stopping (again Ctrl-C: at once)",
    ),
    "zh": Texts(
        starting="正在启动 ...",
        running="LedgerQ 正在运行。",
        look_first="先看这里",
        task_types="任务类型",
        of_module="{count} 个来自 {module}",
        worker="工作进程",
        with_maintenance="运行中，含维护进程",
        no_worker="未启动 (--no-worker)",
        monitor="监控",
        health="健康状态",
        metrics="指标",
        also_at="{place}；/metrics 也在端口 {ports}",
        data="数据",
        embedded="{folder}（内置 PostgreSQL 和 Valkey）",
        configured="已配置的 PostgreSQL 和 Redis",
        their_urls="连接地址",
        document="在另一个终端中试一试：一份 15 页的文档，真的被读取",
        try_it="看它工作：约十秒，进度实时变化",
        stop="按 Ctrl-C 停止；数据会保留。",
        stopping="正在停止（再按 Ctrl-C 立即停止）",
    ),
}
