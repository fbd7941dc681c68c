"""Errors that only HTTP knows; they continue the tree of :mod:`ledgerq_shared.errors`.

LedgerQError ├── MalformedJson 400 not JSON at all ├── ApiKeyMissing 401 ├── ApiKeyInvalid 401 unknown, revoked or
expired ├── RouteNotFound 404 ├── TooManyQueues 422 an InvalidRequest ├── MethodNotAllowed 405 ├── BodyTooLarge 413 ├──
UnsupportedMediaType 415 ├── RateLimited 429 ├── QueryTooSlow 503 ├── KeyTrouble – raised by the command line for keys
(auth.administration), never an answer └── InternalError 500 a fault of ours
"""

from __future__ import annotations

from ledgerq_shared.errors import InvalidRequest, LedgerQError


class MalformedJson(LedgerQError):
    """The body is not valid JSON."""

    code = "malformed_json"
    status = 400


class ApiKeyMissing(LedgerQError):
    """This call needs an API key: send it as `Authorization: Bearer <key>` or `X-API-Key: <key>`."""

    code = "api_key_missing"
    status = 401


class ApiKeyInvalid(LedgerQError):
    """The API key is unknown, revoked or expired."""

    code = "api_key_invalid"
    status = 401


class TooManyQueues(InvalidRequest):
    """This queue does not exist yet, and whoever names it has named as many new ones as they may."""

    code = "too_many_queues"


class RouteNotFound(LedgerQError):
    """There is nothing at this path."""

    code = "not_found"
    status = 404


class MethodNotAllowed(LedgerQError):
    """This path does not answer to this method."""

    code = "method_not_allowed"
    status = 405


class BodyTooLarge(LedgerQError):
    """The request body is too large."""

    code = "body_too_large"
    status = 413


class UnsupportedMediaType(LedgerQError):
    """The request body must be JSON, sent with `Content-Type: application/json`."""

    code = "unsupported_media_type"
    status = 415


class RateLimited(LedgerQError):
    """The API key makes too many requests; `Retry-After` says when to go on."""

    code = "rate_limited"
    status = 429
    retryable = True


class QueryTooSlow(LedgerQError):
    """The list took too long to find: ask for one filter less, or a shorter time."""

    code = "query_too_slow"
    status = 503


class InternalError(LedgerQError):
    """Something went wrong in the server; it has been logged."""

    code = "internal_error"
    status = 500
