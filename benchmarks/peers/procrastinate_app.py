"""Procrastinate on PostgreSQL: keeps each job's row with its state, and its events by triggers."""

import os
import sys

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

from benchmarks import counting

app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_DATABASE"]))


@app.task(name="noop")
async def noop() -> None:
    counting.hit()


if __name__ == "__main__":
    with app.replace_connector(SyncPsycopgConnector(conninfo=os.environ["BENCH_DATABASE"])) as filler, filler.open():
        if sys.argv[1] == "schema":
            filler.schema_manager.apply_schema()
        else:
            filler.configure_task("noop").batch_defer(*({} for _ in range(int(sys.argv[1]))))
