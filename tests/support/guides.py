"""What a guide shows, taken from its text to be followed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

_GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"
HIGH_AVAILABILITY = "high-availability.md"


def block(guide: str, containing: str, language: str) -> str:
    """The one fenced block of a guide that contains a text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (_GUIDES / guide).read_text("utf-8"), re.DOTALL)
    [found] = [one for one in blocks if containing in one]
    return str(found)


def dcs() -> dict[str, Any]:
    """What Patroni's nodes agree on, as the guide has it."""
    text = block(HIGH_AVAILABILITY, "failsafe_mode:", "yaml")
    return dict(yaml.safe_load(text)["bootstrap"]["dcs"])


def statements() -> list[str]:
    """Those that make role and database."""
    return [one for one in block(HIGH_AVAILABILITY, "CREATE DATABASE", "sql").split(";") if one.strip()]
