"""The model of the protocol, its transcription for real histories, and the statements have the same actions."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ledgerq_shared.events import StoredEvent, expand
from tests.support import replay

ROOT = Path(__file__).parent.parent.parent
MODEL = ROOT / "docs" / "model" / "ledger.pml"
STATEMENTS = ROOT / "shared" / "src" / "ledgerq_shared" / "statements"

#: Statements that move tasks or decide who may, and do not stand in the model, with what stands for them there.
ELSEWHERE = {
    "submit_plain_tasks": "submit_tasks",
    "submit_unique_tasks": "submit_tasks",
    "end_at_once": "revoke_waiting",
    "free_celery_ids": "submit_tasks",
    "take_over": "expire",
    "give_way": "expire",
    "record_progress": "refuse",
    "record_log": "refuse",
    "note_failed_deliveries": "refuse",
    "end_worker": "declare_dead",
    "find_lost_workers": "declare_dead",
}
#: Inlines of the model that are no statements.
MACHINERY = {"check", "end", "record", "forget_leg", "forget_flush", "forget_process", "code_begins", "learn"}
#: Steps of the replay that are no statements: `dispatched` is the first part of whatever tells of a begin.
PARTS = {"dispatched"}
MOVES = re.compile(r"(INSERT INTO|UPDATE|DELETE FROM) (ready|held|claim|task|worker)\b")


def _inlines() -> set[str]:
    return set(re.findall(r"^inline (\w+)\(", MODEL.read_text("utf-8"), re.MULTILINE))


def _moving_statements() -> set[str]:
    """Public functions of ``statements/`` whose SQL changes where tasks stand or who lives."""
    found = set()
    for path in STATEMENTS.glob("*.py"):
        source = path.read_text("utf-8")
        tree = ast.parse(source)
        texts: dict[str, str] = {}
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name):
                parts = [texts.get(name.id, "") for name in ast.walk(node.value) if isinstance(name, ast.Name)]
                texts[target.id] = "\n".join([ast.get_source_segment(source, node.value) or "", *parts])
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                used = [texts.get(name.id, "") for name in ast.walk(node) if isinstance(name, ast.Name)]
                if any(MOVES.search(text) for text in [ast.get_source_segment(source, node) or "", *used]):
                    found.add(node.name)
    return found


def test_every_statement_that_moves_tasks_is_an_action_of_the_model():
    statements = _moving_statements() - {"prune_workers"}
    assert {
        "claim_tasks",
        "hand_back",
        "record_ended",
        "recover_claims",
        "request_cancel",
        "declare_dead",
    } <= statements
    assert statements - _inlines() - ELSEWHERE.keys() == set()
    assert set(ELSEWHERE.values()) <= _inlines()


def test_every_action_of_the_model_is_a_statement():
    public = {
        node.name
        for path in STATEMENTS.glob("*.py")
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    assert _inlines() - MACHINERY - public == set()


def test_what_histories_are_replayed_with_has_the_actions_of_the_model():
    about_nodes = {"register_worker", "renew_lease", "declare_dead"}
    actions = {name for name in vars(replay) if name in _inlines() | ELSEWHERE.keys()}
    assert _inlines() - MACHINERY - about_nodes - actions == set()
    used = {action for actions in (*replay.LOGGED.values(), replay.SILENT) for action in actions}
    assert {action.__name__ for action in used} - PARTS <= _inlines() | ELSEWHERE.keys()


def test_each_protection_of_the_model_is_used_in_it():
    spec = importlib.util.spec_from_file_location("check_model", ROOT / "scripts" / "check_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    names = module.protections()
    assert sorted(number for number, _ in names.values()) == list(range(1, len(names) + 1))
    text = MODEL.read_text("utf-8")
    assert {name for name in names if f"KEEP({name})" not in text} == set()


#: What the model prints of an event, where it is no state of a task.
KINDS = {
    2: "retried", 3: "started", 4: "succeeded", 5: "failed", 6: "revoked",
    10: "submitted", 11: "resubmitted", 12: "cancel_requested", 13: "late_write_refused", 14: "recovered",
}  # fmt: skip
ACTORS = {8: "api", 9: "maintenance"}
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def _histories(printed: str) -> dict[int, list[StoredEvent]]:
    """Stored events by task, from the lines of a simulation."""
    found: dict[int, list[StoredEvent]] = defaultdict(list)
    for second, line in enumerate(re.findall(r"EVENT ([\d ]+)", printed)):
        task, what, actor, attempt, with_start, claim = map(int, line.split())
        is_begin = KINDS[what] == "started"
        events = found[task]
        seq = (events[-1].seq if events else 0) + 1 + (2 if with_start and not is_begin else 1 if is_begin else 0)
        at = BEGIN + timedelta(seconds=second)
        data = (
            {"claim": claim} if (actor == 9 and claim) or KINDS[what] == "late_write_refused" else {"reason": "expired"}
        )
        events.append(
            StoredEvent(
                seq,
                at,
                KINDS[what],
                attempt,
                ACTORS.get(actor, f"worker:{actor}"),
                at if with_start else None,
                at if with_start and not is_begin else None,
                data,
            )
        )
    return found


@pytest.mark.skipif(shutil.which("spin") is None, reason="needs spin (apt install spin)")
def test_random_histories_of_the_model_are_allowed(tmp_path):
    kinds = set()
    for people, disturbances, seed in [*((1, 8, seed) for seed in range(60)), *((2, 5, seed) for seed in range(60))]:
        sizes = [f"-DSIMULATION={people}", "-DTASKS=2", f"-DDISTURBANCES={disturbances}"]
        printed = subprocess.run(
            ["spin", "-T", f"-n{seed + 1}", "-u30000", *sizes, str(MODEL)],  # noqa: S607
            cwd=tmp_path, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert "Error" not in printed, (people, seed)
        for stored in _histories(printed).values():
            history = list(expand(stored))
            kinds |= {event.kind for event in history}
            assert replay.problems_with(history) == [], [(event.kind, event.actor, event.attempt) for event in history]
    assert kinds == set(KINDS.values()) | {"dispatched"}
