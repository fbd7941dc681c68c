"""The form of an API key: `lq_` and 256 random bits. Only its SHA-256 is ever kept."""

from __future__ import annotations

import hashlib
import re
import secrets

_PREFIX = "lq_"
_BYTES = 32
#: A key that a person supplies must be as long as one of ours: 43 characters of this alphabet have 256 bits.
_BROUGHT = re.compile(r"[A-Za-z0-9_-]{43,200}")


def new_key() -> str:
    """A new key. The prefix lets scanners for leaked secrets recognise it."""
    return _PREFIX + secrets.token_urlsafe(_BYTES)


def new_key_id() -> str:
    """A new id for a key: random, so that it says nothing about the key or about how many there are."""
    return secrets.token_hex(6)


def is_key(text: str) -> bool:
    """Whether a text that a person supplies can be a key."""
    return _BROUGHT.fullmatch(text) is not None


def digest_of(key: bytes) -> bytes:
    """The digest that is kept of a key. It needs neither salt nor stretching, because nobody can guess 256 random
    bits.
    """
    return hashlib.sha256(key).digest()
