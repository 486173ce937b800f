"""How nodes authenticate each other, by the secret that they share.

A request that one node relays to another carries a signed header that names its sender. A request with that header is relayed no further.

    Trio-Mcp-Hop: node.boot.ms.hmac
    Trio-Mcp-Client: address.hmac

The signature of the first also covers method, target and session, so that a header from one request is not valid on another. The second
one says for which address that node counts the request's session, and holds only beside the first; nodes that do not know it ignore it.

A node proves by its answer to a challenge that it is one of the cluster, and not another host at the address of a node that is gone.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["Hops"]

VALID_MS = 30_000
"""Longer than the clocks of one cluster differ and requests wait in kernels; short, for a stolen header is valid for that long."""
_SIGNATURE_CHARACTERS = 32
_ADDRESS = re.compile(rb"[0-9A-Za-z:.%_-]{2,64}")
"""Of IPv4 or IPv6, which may have a zone."""
_VALUE = re.compile(rb"([A-Za-z0-9-]{1,63})\.[A-Za-z0-9-]{0,64}\.([0-9]{1,15})")


class Hops:
    """Signs with the first of the secrets, verifies with any of them. Raises ValueError when there is none."""

    def __init__(self, secrets: Sequence[bytes], *, node: str, boot: str) -> None:
        if not secrets:
            raise ValueError("a hop cannot be signed without a secret")
        self._keys = [hashlib.blake2b(each, digest_size=32, person=b"trio-mcp hop").digest() for each in secrets]
        self._names = [hashlib.blake2b(each, digest_size=4, person=b"trio-mcp name").hexdigest() for each in self._keys]
        self._origin = f"{node}.{boot}.".encode()
        self._boot = boot

    @property
    def key(self) -> str:
        """The name of the key that signs: eight hex digits that do not reveal it."""
        return self._names[0]

    def knows(self, key: str) -> bool:
        """Whether what a node signs with the key of that name verifies here; True for "", a node that does not say."""
        return key in ("", *self._names)

    def sign(self, method: str, path: bytes, session_id: str, second: int | None = None) -> bytes:
        """The header's value for a request that is sent now; `path` includes the query, `session_id` is empty where there is none.

        `second` is what `time.time()` says now, without the fraction.
        """
        # Whole seconds: within one, a session's requests have the same header, and need no other signature.
        origin = b"%b%d" % (self._origin, (int(time.time()) if second is None else second) * 1000)
        return b"%b.%b" % (origin, _signature(self._keys[0], origin, method, path, session_id))

    def verify(self, value: bytes, method: str, path: bytes, session_id: str) -> str | None:
        """The node that sent it; None when no node of the cluster signed it for this request within the last 30 s."""
        origin, _, signature = value.rpartition(b".")
        found = _VALUE.fullmatch(origin)
        if found is None or abs(time.time() * 1000 - int(found[2])) > VALID_MS:
            return None
        for key in self._keys:
            if hmac.compare_digest(_signature(key, origin, method, path, session_id), signature):
                return found[1].decode()
        return None

    def sign_client(self, hop: bytes, address: str) -> bytes:
        """The value of the header that tells a client's address, beside a hop header with the value `hop`; empty for what is no address."""
        told = address.encode("ascii", "replace")
        return b"%b.%b" % (told, _of_client(self._keys[0], hop, told)) if _ADDRESS.fullmatch(told) else b""

    def client(self, value: bytes, hop: bytes) -> str | None:
        """The address that it tells; None when that does not belong to this hop header, which `verify` has to know."""
        told, _, signature = value.rpartition(b".")
        known = any(hmac.compare_digest(_of_client(key, hop, told), signature) for key in self._keys)
        return told.decode() if known and _ADDRESS.fullmatch(told) else None

    def prove(self, challenge: bytes, url: str) -> str:
        """The answer to a challenge. It covers our boot and URL, so that a host that passes the challenge on to us gains nothing."""
        return _proof(self._keys[0], challenge, self._boot, url)

    def proves(self, proof: str, challenge: bytes, boot: str, url: str) -> bool:
        """Whether `proof` is the answer of the process `boot` of this cluster, at that URL."""
        given = proof.encode()
        return any(hmac.compare_digest(_proof(key, challenge, boot, url).encode(), given) for key in self._keys)


def _of_client(key: bytes, hop: bytes, address: bytes) -> bytes:
    # No hop header's first part is that word: it has dots in it.
    return hmac.digest(key, b"client\n%b\n%b" % (hop, address), "sha256").hex()[:_SIGNATURE_CHARACTERS].encode()


@lru_cache(maxsize=1024)
def _signature(key: bytes, origin: bytes, method: str, path: bytes, session_id: str) -> bytes:
    # None of the parts can hold a line feed: headers cannot carry one, and `RequestHead.target` has it escaped.
    signed = b"%b\n%b\n%b\n%b" % (origin, method.encode(), path, session_id.encode())
    return hmac.digest(key, signed, "sha256").hex()[:_SIGNATURE_CHARACTERS].encode()


def _proof(key: bytes, challenge: bytes, boot: str, url: str) -> str:
    return hmac.digest(key, b"livez\n%b\n%b\n%b" % (challenge, boot.encode(), url.encode()), "sha256").hex()
