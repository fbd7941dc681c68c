from __future__ import annotations

import re

import pytest

from ledgerq_shared.redis_access import celery_broker, celery_result_backend
from ledgerq_shared.redis_urls import access

PATIENCE = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0, "retry": None}


@pytest.mark.parametrize(
    ("written", "for_celery"),
    [
        ("sentinel://h", "sentinel://h:26379/0"),
        ("sentinel://h:1/", "sentinel://h:1/0"),
        ("sentinel://:p@h:1;sentinel://g/3", "sentinel://:p@h:1/3;sentinel://:p@g:26379/3"),
        ("sentinel://u:p%40@h:1/3;sentinel://u:p%40@g:2/3", "sentinel://u:p%40@h:1/3;sentinel://u:p%40@g:2/3"),
        ("sentinel://[::1]:1/2", "sentinel://[::1]:1/2"),
    ],
)
def test_every_sentinel_says_all_of_the_master(written: str, for_celery: str):
    found = access(f"{written}?master_name=m")
    assert (found.url, found.options) == (for_celery, {"master_name": "m", "sentinel_kwargs": PATIENCE})


def test_sentinels_may_have_a_password_of_their_own():
    found = access("sentinel://:p@h?master_name=my%20master&sentinel_username=u&sentinel_password=s%26t")
    assert found.options == {
        "master_name": "my master",
        "sentinel_kwargs": PATIENCE | {"username": "u", "password": "s&t"},
    }
    assert "s&t" not in repr(found)
    assert ":p@" not in repr(found)


def test_celery_is_told_the_same_of_broker_and_results():
    url = "sentinel://h/1?master_name=m"
    options = {"master_name": "m", "sentinel_kwargs": PATIENCE}
    assert celery_broker(url) == {"broker_url": "sentinel://h:26379/1", "broker_transport_options": options}
    assert celery_result_backend("redis://h") == {"result_backend": "redis://h", "result_backend_transport_options": {}}


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("sentinel://:secret@h", "does not name the master"),
        ("sentinel://:secret@h?master_name=", "does not name the master"),
        ("sentinel://:secret@h;g:26379/0?master_name=m", "does not begin with 'sentinel://'"),
        ("sentinel://:secret@h;redis://g?master_name=m", "does not begin with 'sentinel://'"),
        ("sentinel://:sec;secret@h?master_name=m", "write ';' as %3B"),
        ("sentinel://:secret@h:port?master_name=m", "whose host or port cannot be read"),
        ("sentinel://:secret@h:99999?master_name=m", "whose host or port cannot be read"),
        ("sentinel://:secret@[::1?master_name=m", "whose host or port cannot be read"),
        ("sentinel://:secret@:1?master_name=m", "whose host or port cannot be read"),
        ("sentinel://:secret@h:0?master_name=m", "whose host or port cannot be read"),
        ("sentinel://:sec#secret@h?master_name=m", "in a password write '@', '/', '?' and '#' as %XX"),
        ("sentinel://:sec?secret@h?master_name=m", "has something else after '?'"),
        ("sentinel://:secret@h/zero?master_name=m", "not the number of a database"),
        ("sentinel://:secret@h/0;sentinel://g/1?master_name=m", "more than one number of a database"),
        ("sentinel://:secret@h;sentinel://:secret2@g?master_name=m", "more than one user and password"),
        ("sentinel://:secret@h?master_name=m;sentinel://g", "which stand once, at the end"),
        ("sentinel://:secret@h?master=m", "has something else after '?' than master_name"),
        ("sentinel://:secret@h?master_name=m&ssl_cert_reqs=none", "TLS, which is not supported with Sentinel"),
    ],
)
def test_what_is_malformed_is_one_line_without_a_password(url: str, line: str):
    with pytest.raises(ValueError, match=re.escape(line)) as caught:
        access(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
