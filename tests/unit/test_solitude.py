from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator

import pytest

from ledgerq_worker.drain.solitude import Kind, Solitude, kind_of
from ledgerq_worker.slot.table import SlotTable
from tests.support import wait


@pytest.fixture
def table() -> Iterator[SlotTable]:
    made = SlotTable.create(3)
    yield made
    made.remove()


def _run(table: SlotTable, slot: int) -> None:
    table.begin(slot, 1, str(uuid.uuid4()), 1.0, 0.0)


def _enter(table: SlotTable, slot: int, kind: Kind) -> threading.Thread:
    """A slot with a suspect; its code runs as soon as it may, and goes on."""

    def work() -> None:
        if Solitude(table, slot).enter(kind, is_over=lambda: False):
            _run(table, slot)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    wait.until(lambda: table.may_have_suspects)
    return thread


def _leave(table: SlotTable, slot: int) -> None:
    table.end(slot)
    Solitude(table, slot).leave()


@pytest.mark.parametrize(
    ("deaths", "is_of_a_node", "quarantine_after", "shares_process", "kind"),
    [
        (1, False, 3, False, Kind.NONE),
        (2, False, 3, False, Kind.NONE),
        (0, True, 3, False, Kind.AMONG_SUSPECTS),
        (1, True, 3, False, Kind.AMONG_SUSPECTS),
        (2, True, 3, False, Kind.WHOLE_NODE),
        (5, True, 3, False, Kind.WHOLE_NODE),
        (1, True, 2, False, Kind.WHOLE_NODE),
        (0, True, 1, False, Kind.AMONG_SUSPECTS),
        (1, False, 3, True, Kind.WHOLE_NODE),
    ],
)
def test_what_a_suspect_needs(deaths: int, is_of_a_node: bool, quarantine_after: int, shares_process: bool, kind: Kind):
    assert kind is kind_of(
        worker_deaths=deaths,
        is_of_a_node=is_of_a_node,
        quarantine_after=quarantine_after,
        shares_process=shares_process,
    )


def test_a_suspect_with_its_last_chance_waits_for_what_runs_and_keeps_the_rest_from_beginning(table: SlotTable):
    _run(table, 0)
    thread = _enter(table, 1, Kind.WHOLE_NODE)
    assert Solitude(table, 2).is_closed()
    thread.join(0.2)
    assert thread.is_alive()
    table.end(0)
    thread.join(10)
    assert not thread.is_alive()
    assert Solitude(table, 0).is_closed()
    _leave(table, 1)
    assert not Solitude(table, 0).is_closed()
    assert not table.may_have_suspects


def test_suspects_run_one_after_another_and_others_beside_them(table: SlotTable):
    _run(table, 2)
    first = _enter(table, 1, Kind.AMONG_SUSPECTS)
    first.join(10)
    second = _enter(table, 0, Kind.AMONG_SUSPECTS)
    assert not Solitude(table, 2).is_closed()
    second.join(0.2)
    assert second.is_alive()
    _leave(table, 1)
    second.join(10)
    assert not second.is_alive()


@pytest.mark.parametrize("kind", [Kind.AMONG_SUSPECTS, Kind.WHOLE_NODE])
def test_of_two_suspects_that_come_at_the_same_time_one_begins(table: SlotTable, kind: Kind):
    threads = [_enter(table, slot, kind) for slot in (2, 1)]
    wait.until(lambda: any(is_running for _, _, is_running in table.others(0)))
    threads[0].join(0.2)
    assert sum(thread.is_alive() for thread in threads) == 1
    running = next(slot for slot, _, is_running in table.others(0) if is_running)
    _leave(table, running)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_a_suspect_waits_no_longer_when_the_node_is_stopping(table: SlotTable):
    _run(table, 0)
    thread = _enter(table, 1, Kind.WHOLE_NODE)
    table.is_stopping = True
    thread.join(10)
    assert not any(kind for _, kind, _ in table.others(0))
    assert not any(is_running for _, _, is_running in table.others(0))


def test_what_a_dead_process_wanted_is_forgotten_with_it(table: SlotTable):
    table.want_solitude(1, Kind.WHOLE_NODE)
    table.may_have_suspects = True
    assert Solitude(table, 0).is_closed()
    table.enter(1, 0)
    assert not Solitude(table, 0).is_closed()
