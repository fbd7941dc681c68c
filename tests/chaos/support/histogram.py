"""How long recoveries took: a text histogram for people, never an assertion by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_EDGES = (0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 15.0)
_WIDTH = 40


def histogram(title: str, seconds: Sequence[float], *, promised: float) -> str:
    """Lines such as ``<= 0.50 s  ####  12``, with the largest value and what was promised."""
    if not seconds:
        return f"{title}: none"
    summary = f"median {_quantile(seconds, 0.5):.2f} s, p95 {_quantile(seconds, 0.95):.2f} s, most {max(seconds):.2f} s"
    lines = [f"{title}: {len(seconds)}, {summary} (promised: {promised:g} s)"]
    floor = 0.0
    counts = []
    for edge in (*_EDGES, float("inf")):
        counts.append((edge, sum(floor < value <= edge for value in seconds)))
        floor = edge
    most = max(count for _, count in counts)
    for edge, count in counts:
        if count:
            label = f"<= {edge:5.2f} s" if edge != float("inf") else f" > {_EDGES[-1]:5.2f} s"
            lines.append(f"  {label}  {'#' * max(1, round(_WIDTH * count / most)):<{_WIDTH}} {count}")
    return "\n".join(lines)


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
