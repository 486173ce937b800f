"""The ways to Redis: TCP, TLS, Unix socket, with an account, through Sentinels."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.rig.ports import free_ports
from tests.rig.redis import RedisServer, redis_sentinel, redis_server
from tests.rig.waiting import until
from trio_mcp.cluster.redis.client import RedisClient
from trio_mcp.cluster.store.port import StoreDown

pytestmark = [pytest.mark.sockets, pytest.mark.processes]


async def _ask(url: str, *command: str) -> Any:
    link = RedisClient(url)
    try:
        return (await link.run([command]))[0]
    finally:
        link.close()


async def test_the_database_of_the_url_is_the_one_that_is_used(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as server:
        await _ask(f"redis://127.0.0.1:{server.port}/3", "SET", "a", "1")
        assert await _ask(f"redis://127.0.0.1:{server.port}?db=3", "GET", "a") == b"1"
        assert await _ask(f"redis://127.0.0.1:{server.port}", "GET", "a") is None
        with pytest.raises(StoreDown, match="out of range"):
            await _ask(f"redis://127.0.0.1:{server.port}/99", "PING")


async def test_a_unix_socket_serves_as_well(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    url = f"unix://{path}?db=2"
    with pytest.raises(StoreDown, match="No such file"):
        await _ask(url, "PING")
    async with redis_server(tmp_path, extra=("--unixsocket", str(path))):
        assert b" db=2 " in await _ask(url, "CLIENT", "INFO")


async def test_a_user_signs_in_with_a_password_and_may_do_what_its_rules_say(tmp_path: Path) -> None:
    rules = ("--user", "node", "on", ">p@ss/word", "~mcp:*", "+@all", "-@dangerous")
    async with redis_server(tmp_path, extra=("--requirepass", "other", *rules)) as server:
        link = RedisClient(f"redis://node:p%40ss%2Fword@127.0.0.1:{server.port}")
        allowed, other_key, dangerous = await link.run([("SET", "mcp:a", 1), ("SET", "b", 1), ("FLUSHALL",)])
        link.close()
        assert allowed == b"OK"
        assert (other_key.code, dangerous.code) == ("NOPERM", "NOPERM")
        assert await _ask(f"redis://:other@127.0.0.1:{server.port}", "ACL", "WHOAMI") == b"default"


async def test_a_wrong_password_is_down_and_not_shown(tmp_path: Path) -> None:
    async with redis_server(tmp_path, extra=("--requirepass", "right")) as server:
        with pytest.raises(StoreDown, match=r"(?i)invalid") as down:
            await _ask(f"redis://:hunter2@127.0.0.1:{server.port}", "PING")
        assert "hunter2" not in repr(down.value)


@pytest.fixture
async def over_tls(tmp_path: Path) -> AsyncIterator[str]:
    """A URL of a server whose certificate its own file vouches for; the options are still to be said."""
    certificate, key = _certificate(tmp_path)
    (port,) = free_ports(1)
    options = ("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    async with redis_server(tmp_path, extra=(*options, "--tls-auth-clients", "no")):
        yield f"rediss://127.0.0.1:{port}/1"


async def test_tls_with_a_certificate_that_is_trusted(over_tls: str, tmp_path: Path) -> None:
    url = f"{over_tls}?ssl_ca_certs={tmp_path / 'cert.pem'}"
    assert b" db=1 " in await _ask(url, "CLIENT", "INFO")
    link = RedisClient(url)
    assert await link.run([("SET", "big", b"x" * 300_000), ("STRLEN", "big")]) == [b"OK", 300_000]
    (first,) = await link.run([("CLIENT", "ID")])
    assert await link.run([("CLIENT", "ID")]) == [first]
    link.close()


async def test_tls_with_a_certificate_nobody_vouches_for_is_down_unless_the_url_says_so(over_tls: str) -> None:
    with pytest.raises(StoreDown, match=r"(?i)certificate"):
        await _ask(over_tls, "PING")
    assert await _ask(f"{over_tls}?ssl_cert_reqs=none", "PING") == b"PONG"


async def test_tls_of_another_host_is_down_unless_the_url_says_so(over_tls: str, tmp_path: Path) -> None:
    url = f"{over_tls.replace('127.0.0.1', 'localhost')}?ssl_ca_certs={tmp_path / 'cert.pem'}"
    with pytest.raises(StoreDown, match=r"(?i)hostname mismatch"):
        await _ask(url, "PING")
    assert await _ask(f"{url}&ssl_check_hostname=false", "PING") == b"PONG"


async def test_tls_towards_a_server_without_is_down(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as server:
        with pytest.raises(StoreDown):
            await _ask(f"rediss://127.0.0.1:{server.port}", "PING")


async def test_a_sentinel_leads_to_the_master_also_when_the_first_one_is_gone(tmp_path: Path) -> None:
    (nobody,) = free_ports(1)
    async with redis_server(tmp_path) as master, redis_sentinel(tmp_path, master) as sentinel:
        hosts = f"127.0.0.1:{nobody},127.0.0.1:{sentinel.port}"
        link = RedisClient(f"redis+sentinel://{hosts}/mymaster/2")
        assert await link.run([("SET", "a", 1)]) == [b"OK"]
        assert await _ask(f"{master.url[:-1]}2", "GET", "a") == b"1"
        assert link.shown == f"redis+sentinel://{hosts}/mymaster/2"
        link.close()


async def test_a_sentinel_that_does_not_answer_costs_its_timeout_once(tmp_path: Path) -> None:
    asked: list[trio.SocketStream] = []

    async def never_answer(stream: trio.SocketStream) -> None:
        asked.append(stream)
        await trio.sleep_forever()

    async with (
        redis_server(tmp_path) as master,
        redis_sentinel(tmp_path, master) as well,
        trio.open_nursery() as nursery,
    ):
        (deaf,) = await nursery.start(partial(trio.serve_tcp, never_answer, 0, host="127.0.0.1"))
        hosts = f"127.0.0.1:{deaf.socket.getsockname()[1]},127.0.0.1:{well.port}"
        link = RedisClient(f"redis+sentinel://{hosts}/mymaster", command_timeout=0.5)
        (first,) = await link.run([("CLIENT", "ID")])
        await master.ask("CLIENT", "KILL", "TYPE", "normal")
        (second,) = await link.run([("CLIENT", "ID")])
        assert first != second
        assert len(asked) == 1
        link.close()
        nursery.cancel_scope.cancel("seen enough")


async def test_sentinels_that_do_not_know_the_master_are_down(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as master, redis_sentinel(tmp_path, master) as sentinel:
        with pytest.raises(StoreDown, match=r"master other: .*does not know"):
            await _ask(f"redis+sentinel://127.0.0.1:{sentinel.port}/other", "PING")
        await sentinel.stop()
        with pytest.raises(StoreDown, match=r"no Sentinel leads.*refused"):
            await _ask(f"redis+sentinel://127.0.0.1:{sentinel.port}/mymaster", "PING")


async def test_redis_and_its_sentinel_may_want_different_passwords(tmp_path: Path) -> None:
    async with redis_server(tmp_path, extra=("--requirepass", "one")) as master:
        lines = ("sentinel auth-pass mymaster one", "requirepass two")
        async with redis_sentinel(tmp_path, master, extra=lines) as sentinel:
            url = f"redis+sentinel://:one@127.0.0.1:{sentinel.port}/mymaster"
            assert await _ask(f"{url}?sentinel_password=two", "PING") == b"PONG"
            with pytest.raises(StoreDown, match="Authentication required"):
                await _ask(url, "PING")


async def test_a_sentinel_that_has_not_heard_of_the_failover_is_not_believed(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as master, redis_sentinel(tmp_path, master) as sentinel:
        await sentinel.stop()  # another one would have told it; now it says what it said before
        await sentinel.start()
        await master.ask("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StoreDown, match="replica"):
            await _ask(f"redis+sentinel://127.0.0.1:{sentinel.port}/mymaster", "PING")


@pytest.mark.slow
async def test_after_a_failover_the_link_is_with_the_new_master(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as master, _replica(tmp_path, master) as replica:
        async with redis_sentinel(tmp_path, master) as sentinel:
            link = RedisClient(f"redis+sentinel://127.0.0.1:{sentinel.port}/mymaster")
            await link.run([("SET", "before", 1)])
            await _has(replica, "before")
            await master.stop()

            async def writes_again() -> bool:
                try:
                    return await link.run([("SET", "after", 1)]) == [b"OK"]
                except StoreDown:
                    return False

            await until(writes_again, "the new master is written to")
            assert await replica.ask("MGET", "before", "after") == [b"1", b"1"]
            link.close()


@asynccontextmanager
async def _replica(folder: Path, master: RedisServer) -> AsyncIterator[RedisServer]:
    async with redis_server(folder, extra=("--replicaof", "127.0.0.1", str(master.port))) as replica:

        async def asked() -> bool:
            return b"master_link_status:up" in await replica.ask("INFO", "replication")

        await until(asked, "the replica follows")
        yield replica


async def _has(server: RedisServer, key: str) -> None:
    async def asked() -> bool:
        return bool(await server.ask("EXISTS", key))

    await until(asked, f"{key} is there")


def _certificate(folder: Path) -> tuple[Path, Path]:
    """For 127.0.0.1, signed by itself; and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return folder / "cert.pem", folder / "key.pem"
