"""Every error has a Chinese title."""

from __future__ import annotations

import ledgerq_api.auth.administration
import ledgerq_api.errors
from ledgerq_api.titles import TITLES
from ledgerq_shared.errors import LedgerQError


def every(kind: type[LedgerQError]) -> set[type[LedgerQError]]:
    return {kind}.union(*(every(one) for one in kind.__subclasses__()))


def test_every_code_that_the_api_answers_with_has_a_chinese_title():
    never_answered = {LedgerQError, ledgerq_api.auth.administration.KeyTrouble}
    ours = {kind.code for kind in every(LedgerQError) - never_answered if kind.__module__.startswith("ledgerq_")}
    assert set(TITLES) == ours
