"""docs/guides/kubernetes.md, followed: its commands are taken from the text and run."""

from __future__ import annotations

import re

from tests.kubernetes.cluster import ROOT, run

_TEXT = (ROOT / "docs" / "guides" / "kubernetes.md").read_text("utf-8")


def block(containing: str, language: str = "sh") -> str:
    """The one fenced block that contains a text."""
    [found] = [one for one in re.findall(rf"```{language}\n(.*?)```", _TEXT, re.DOTALL) if containing in one]
    return str(found)


def follow(script: str, *, timeout: float = 400, **variables: str) -> str:
    """Run a block as it stands, in the repository's folder; what it printed."""
    return run("bash", "-euc", f"cd {ROOT}\n{script}", timeout=timeout, **variables)
