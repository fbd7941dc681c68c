"""Run one attack; what it counted is printed as JSON.

python -m tests.hostile.attacks NAME HOST PORT SECONDS SEED ROUND, with the attacker's key in HOSTILE_KEY.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import sys

from tests.hostile.attacks import catalogue
from tests.hostile.attacks.visit import Visit


def main() -> None:
    """Parse, attack, tell."""
    name, host, port, seconds, seed, round_ = sys.argv[1:]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.nice(10)  # an attacker has a machine of its own; this one is the server's
    visit = Visit(host, int(port), os.environ.get("HOSTILE_KEY", ""), float(seconds), random.Random(seed), int(round_))
    asyncio.run(catalogue.ATTACKS[name](visit))
    print(json.dumps(visit.tally))


main()
