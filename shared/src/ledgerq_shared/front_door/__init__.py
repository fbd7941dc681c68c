"""What a connection may cost a server: the bytes of a head, the time for each part of a request, the memory of all
together.

uvicorn parses HTTP; this package stands between uvicorn and the socket. A client without a key may open connections,
send a head that never ends, stall in a body, or not read its answer. Each of these has a bound here, and an answer that
names the bound:

- ``guard``: what the connections of one process share: the limits, the memory of all, and who gives way;
- ``connection``: what is mixed into uvicorn's protocol class: bounds of the head, the count of a body's bytes, refusals;
- ``times``: for how long a client is waited for;
- ``closing``: how a connection is closed so that its client gets to read the last answer;
- ``answers``: the answer to a request that does not reach the application.

The package does not depend on the web framework, so the API and the monitor both use it.
"""

from ledgerq_shared.front_door.connection import Guarded
from ledgerq_shared.front_door.guard import Guard, Limits

__all__ = ["Guard", "Guarded", "Limits"]
