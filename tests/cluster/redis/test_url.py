"""Redis URLs: what is meant, and that no error and no log line shows the password."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mcp.cluster.redis.url import InvalidRedisUrl, parse


@pytest.mark.parametrize(
    ("url", "addresses", "db"),
    [
        ("redis://cache", (("cache", 6379),), 0),
        ("redis://cache:7000/3", (("cache", 7000),), 3),
        ("redis://cache/?db=4", (("cache", 6379),), 4),
        ("redis://[::1]", (("::1", 6379),), 0),
        ("redis://[fd00::7]:7000/1", (("fd00::7", 7000),), 1),
        ("rediss://cache", (("cache", 6379),), 0),
        ("redis+sentinel://a,b:7000,[::1]:7001/cache/2", (("a", 26379), ("b", 7000), ("::1", 7001)), 2),
        ("unix:///run/redis.sock?db=5", (), 5),
    ],
)
def test_a_url_says_where_redis_is(url: str, addresses: tuple[tuple[str, int], ...], db: int) -> None:
    understood = parse(url)
    assert (understood.addresses, understood.db) == (addresses, db)


def test_a_unix_socket_has_a_path_and_a_sentinel_url_a_master() -> None:
    assert parse("unix://user:secret@/run/a%20b.sock").path == "/run/a b.sock"
    assert parse("redis+sentinel://host/my%2Fmaster").master == "my/master"
    assert parse("redis://host/1").path is None
    assert parse("redis://host/1").master is None


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+sentinel", "unix"])
def test_user_and_password_are_decoded_whatever_they_are_made_of(scheme: str) -> None:
    account = f"{quote('us:er', safe='')}:{quote('p@ss/w?rd#%', safe='')}"
    understood = parse(f"{scheme}://{account}@{'' if scheme == 'unix' else 'host'}/1")
    assert (understood.username, understood.password) == ("us:er", "p@ss/w?rd#%")


def test_a_password_needs_no_user_and_a_sentinel_has_its_own() -> None:
    understood = parse("redis+sentinel://:secret@host/cache?sentinel_username=u&sentinel_password=p%26w")
    assert (understood.username, understood.password) == (None, "secret")
    assert (understood.sentinel_username, understood.sentinel_password) == ("u", "p&w")


def test_certificates_are_checked_unless_the_url_says_otherwise(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.touch()
    assert parse("redis://host").tls is None
    assert parse("rediss://host").tls == {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    chosen = parse(f"rediss://host?ssl_ca_certs={authority}&ssl_cert_reqs=none&ssl_check_hostname=False")
    assert chosen.tls == {"ssl_ca_certs": str(authority), "ssl_cert_reqs": "none", "ssl_check_hostname": False}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@cache:7000/3?db=3", "redis://cache:7000/3"),
        ("redis+sentinel://:secret@a,b/cache/2?sentinel_password=secret", "redis+sentinel://a,b/cache/2"),
        ("unix://:secret@/run/redis.sock?db=1", "unix:///run/redis.sock"),
    ],
)
def test_logs_show_the_url_without_user_password_and_options(url: str, shown: str) -> None:
    understood = parse(url)
    assert understood.shown == shown
    assert "secret" not in repr(understood)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://user:secret@host", "begins with one of redis://"),
        ("user:secret@host", "begins with one of redis://"),
        ("redis://", "names no host"),
        ("redis://user:secret@", "names no host"),
        ("redis://user:secret@:6379", "names no host"),
        ("redis://user:se/cret@host", "percent-encode"),
        ("redis://user:9/secret@host", "percent-encode"),
        ("redis://user:se?secret@host", "percent-encode"),
        ("redis://:9?secret@host", "percent-encode"),
        ("redis://user:9?secret=1@host", "percent-encode"),
        ("redis://user:9?db=1&secret@host", "percent-encode"),
        ("redis://u:se@cret?secret@host", "percent-encode"),
        ("redis://:se@cret/secret@host", "percent-encode"),
        ("unix://:secret@/secret@/run/redis.sock", "percent-encode"),
        ("unix://:se/cret@/run/redis.sock", "percent-encode"),
        ("redis://:secret@host:port", "port"),
        ("redis://:secret@host:0", "port"),
        ("redis://:secret@host:65536", "port"),
        ("redis://:secret@host:" + "9" * 5000, "port"),
        ("redis://:secret@host/cache", "database"),
        ("redis://:secret@host/" + "9" * 5000, "database"),
        ("redis://:secret@a,b", "several hosts"),
        ("redis+sentinel://:secret@a,b", "names its master"),
        ("redis+sentinel://:secret@a,/cache", "names no host"),
        ("redis://:secret@" + "a" * 64, "cannot be"),
        ("redis://:secret@ho st", "cannot be"),
        ("unix://host/run/redis.sock", "names a path, not a host"),
        ("unix://", "names a path"),
        ("redis://:secret@host?socket_timeout=1", "option"),
        ("redis://:secret@host?secret", "option"),
        ("rediss://:secret@host?ssl_ca_certs=/no/such.pem", "/no/such.pem"),
        ("rediss://:secret@host?ssl_cert_reqs=maybe", "ssl_cert_reqs"),
        ("rediss://:secret@host?ssl_check_hostname=maybe", "ssl_check_hostname"),
    ],
)
def test_a_wrong_url_is_refused_in_words_without_the_password(url: str, says: str) -> None:
    with pytest.raises(InvalidRedisUrl, match=says) as refusal:
        parse(url)
    assert "secret" not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__context__ is None or "secret" not in str(refusal.value.__context__)


@given(
    st.text(st.sampled_from("@/?#:,%[]=&5 \x00ü"), max_size=6),
    st.sampled_from(["host", "a,b/cache", "/run/redis.sock"]),
)
def test_no_password_that_nobody_encoded_is_ever_shown(junk: str, rest: str) -> None:
    for scheme in ("redis", "rediss", "unix", "redis+sentinel"):
        assert "hunter2" not in _said(f"{scheme}://user:{junk}hunter2{junk}@{rest}")


def _said(url: str) -> str:
    try:
        return repr(parse(url))
    except InvalidRedisUrl as refusal:
        return str(refusal)
