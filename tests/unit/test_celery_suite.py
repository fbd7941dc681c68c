"""What `make test-celery` says of two runs of the same tests."""

from __future__ import annotations

from tests.celery_suite.verdicts import Comparison, Known, outcomes

_REPORT = """<testsuites><testsuite>
<testcase classname="t.integration.test_tasks.test_class" name="test_good[a]"/>
<testcase classname="t.integration.test_canvas" name="test_bad"><failure message="assert 1 ==&#10; 2"/></testcase>
<testcase classname="t.integration.test_canvas" name="test_broken"><error message="no worker"/></testcase>
<testcase classname="t.integration.test_beat" name="test_left_out"><skipped message="never"/></testcase>
</testsuite></testsuites>"""


def _compared(stock: dict[str, str], ours: dict[str, str], **known: str) -> Comparison:
    return Comparison(stock, ours, Known({f"f.py::{name}": why for name, why in known.items()}, frozenset()))


def test_a_report_is_read_by_file_and_test(tmp_path):
    (tmp_path / "report.xml").write_text(_REPORT)
    assert outcomes(tmp_path / "report.xml") == {
        "test_tasks.py::test_class::test_good[a]": "green",
        "test_canvas.py::test_bad": "assert 1 == 2",
        "test_canvas.py::test_broken": "no worker",
        "test_beat.py::test_left_out": "",
    }


def test_what_a_stock_worker_passes_and_ours_does_not_is_told_unless_it_is_explained():
    stock = {"f.py::a": "green", "f.py::b": "green", "f.py::c": "green", "f.py::d": "it failed"}
    found = _compared(stock, {"f.py::a": "green", "f.py::b": "too late", "f.py::d": "it failed"}, b="it has no pid")
    assert found.unexplained() == ["f.py::c: it did not run"]
    assert found.outdated() == []
    assert list(found.table())[-1] == "| all | 3 | 1 |"


def test_an_explanation_that_is_no_longer_needed_is_told():
    assert _compared({"f.py::a": "green"}, {"f.py::a": "green"}, a="it waits").outdated() == ["f.py::a"]
