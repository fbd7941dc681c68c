"""Structured logs: structlog in front, console lines for people or JSON for collectors behind.

Logging never raises: a line that cannot be made or written is lost (:mod:`ledgerq_shared.process.output`), and the next line
that can be written says how many were lost.

- ``configuring``: sets up structlog and the standard library's logging for a process;
- ``losing``: what fails in a line costs that line, in whichever of the ways it is written;
- ``fields``: what stands in every line;
- ``json_lines``: how a line of JSON looks;
- ``capturing``: makes lines of what is printed (``prints``), of warnings, and of exceptions that nobody handles.
"""

from ledgerq_shared.process.logging.configuring import configure, is_for_people

__all__ = ["configure", "is_for_people"]
