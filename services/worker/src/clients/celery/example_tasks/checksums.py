"""Checksums of files of any size, read in chunks."""

import hashlib
from typing import Literal

from clients.celery.example_tasks.documents import Document
from clients.celery.example_tasks.errors import InvalidOptions
from clients.celery.example_tasks.progress import Reporter, step

Algorithm = Literal["sha256", "sha512", "blake2b", "md5"]

_KNOWN = ("sha256", "sha512", "blake2b", "md5")
_CHUNK = 1024 * 1024


def checksum(document: Document, algorithm: Algorithm, reporter: Reporter) -> tuple[str, int]:
    """The hexadecimal digest of the whole file and how many bytes it covers."""
    if algorithm not in _KNOWN:
        raise InvalidOptions(f"Unknown algorithm {algorithm!r}: use one of {', '.join(_KNOWN)}.")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    done = 0
    while chunk := document.file.read(_CHUNK):
        digest.update(chunk)
        done += len(chunk)
        step(reporter, done, max(done, document.size), f"{done:,} of {document.size:,} bytes")
    return digest.hexdigest(), done
