"""COMMITs of one process of which nobody knows whether they were done, or whether a standby has them."""

from __future__ import annotations

import math
import time

#: For so many seconds after the first COMMIT that was confirmed again, others are, too: of a COMMIT whose connection was
#: lost, the server may be about to write the record only now.
_CONFIRM_FOR = 30.0


class Doubts:
    """Says which COMMITs are to be confirmed: from a doubt on each, for one of them may be the repetition of that one."""

    def __init__(self) -> None:
        #: Until when, by the monotonic clock; 0: none was ever in doubt.
        self._until = 0.0
        self._number = 0

    def arise(self) -> None:
        """Nobody knows what became of a COMMIT."""
        self._number += 1
        self._until = math.inf

    @property
    def to_settle(self) -> int:
        """How many doubts a COMMIT would settle; 0: there are none, and it need not be confirmed."""
        return self._number if self._until and time.monotonic() < self._until else 0

    def settle(self, number: int) -> None:
        """A COMMIT was confirmed, which began when there were so many doubts."""
        if number and number == self._number and self._until == math.inf:
            self._until = time.monotonic() + _CONFIRM_FOR
