"""The head of a relayed request is kept for the requests with an equal head that follow within the second."""

from __future__ import annotations

import time

import pytest

from trio_mcp.cluster.hop import Hops
from trio_mcp.cluster.peer.client import PeerClient
from trio_mcp.transports.http.exchange import read_head

HOPS = Hops([b"secret"], node="node1", boot="b1")
URL = "http://10.0.0.2:8000"


def test_it_is_made_anew_for_another_second_session_owner_or_client(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = time.time()
    monkeypatch.setattr(time, "time", lambda: seconds)
    client = PeerClient(HOPS, node="node1")
    head = read_head("POST", "/mcp", b"/mcp", [(b"host", b"a"), (b"content-length", b"7"), (b"x-b", b"1")])
    first = client._head(head, "node2.x", URL)
    assert first.startswith(b"POST /mcp HTTP/1.1\r\nhost: a\r\nx-b: 1\r\ntrio-mcp-hop: node1.b1.")
    assert first.endswith(b"\r\ncontent-length: ")
    longer = head.with_content_length(b"10")
    assert client._head(head, "node2.x", URL) is client._head(longer, "node2.x", URL) is first
    for session_id, url in (("node2.y", URL), ("node2.x", f"{URL}#node2-w1"), ("node2.x", URL)):
        made = client._head(head, session_id, url)
        assert (made == first) == ((session_id, url) == ("node2.x", URL))
        assert (b"\r\ntrio-mcp-worker: node2-w1\r\n" in made) == ("#" in url)
    told = client._head(head, "node2.x", URL, "192.0.2.1")
    assert b"\r\ntrio-mcp-client: 192.0.2.1." in told
    assert client._head(head, "node2.x", URL, "192.0.2.1") is told
    assert client._head(head, "node2.x", URL) == first
    seconds += 31
    later = client._head(head, "node2.x", URL)
    hops = [said.partition(b"trio-mcp-hop: ")[2].partition(b"\r\n")[0] for said in (first, later)]
    assert [HOPS.verify(hop, "POST", b"/mcp", "node2.x") for hop in hops] == [None, "node1"]
