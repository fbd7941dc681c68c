"""COMMITs of one process whose outcome is unknown: nobody knows whether they were done, or whether a standby has
them.
"""

from __future__ import annotations

import math
import time

#: For this many seconds after the first COMMIT that was confirmed again, further COMMITs are confirmed, too: if a
#: COMMIT lost its connection, the server may write its record only now.
_CONFIRM_FOR = 30.0


class Doubts:
    """Says which COMMITs are to be confirmed: after a doubt all of them, because one of them may repeat the COMMIT in
    doubt.
    """

    def __init__(self) -> None:
        #: Until when COMMITs are confirmed, by the monotonic clock; 0: no COMMIT was ever in doubt.
        self._until = 0.0
        self._number = 0

    def arise(self) -> None:
        """Note that a COMMIT's outcome is unknown."""
        self._number += 1
        self._until = math.inf

    @property
    def to_settle(self) -> int:
        """How many doubts a COMMIT would settle; 0: there are none, and the COMMIT need not be confirmed."""
        return self._number if self._until and time.monotonic() < self._until else 0

    def settle(self, number: int) -> None:
        """Note that a COMMIT was confirmed that began when there were ``number`` doubts."""
        if number and number == self._number and self._until == math.inf:
            self._until = time.monotonic() + _CONFIRM_FOR
