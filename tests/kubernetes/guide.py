"""docs/guides/kubernetes.md, followed: its commands are taken from the text and run."""

from __future__ import annotations

from tests.kubernetes.cluster import ROOT, run
from tests.support import guides


def block(containing: str, language: str = "sh") -> str:
    """The one fenced block that contains a text."""
    return guides.block("kubernetes.md", containing, language)


def follow(script: str, *, timeout: float = 400, **variables: str) -> str:
    """Run a block as it stands, in the repository's folder; what it printed."""
    return run("bash", "-euc", f"cd {ROOT}\n{script}", timeout=timeout, **variables)
