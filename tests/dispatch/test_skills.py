"""The methods of skills (SEP-2640): the entries, one entry, a folder; who may see them; what is declared."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from tests.auth.issuer import NOW, RESOURCE, token, verifier
from tests.transports.http.harness import LEGACY, ModernClient, serving
from trio_mcp import MCPServer, Options
from trio_mcp.auth import BearerAuth, require_scopes
from trio_mcp.features.skills import SKILLS

READ, WRITE = ({"authorization": f"Bearer {token(scope=scope)}"} for scope in ("mcp:read", "mcp:read mcp:write"))


def skill(parent: Path, name: str) -> Path:
    root = parent / name
    (root / "templates").mkdir(parents=True)
    (root / "SKILL.md").write_text(f"---\nname: {name}\ndescription: About {name}\n---\r\n", newline="")
    (root / "templates" / "a.bin").write_bytes(b"\xff\x00")
    return root


async def get(client: ModernClient, method: str, **params: Any) -> Any:
    return await client.start(method, params).answer()


async def test_entries_say_what_is_read(tmp_path: Path) -> None:
    mcp = MCPServer("t", options=Options(page_size=2))
    for name in ("one", "two", "three"):
        mcp.add_skill(skill(tmp_path, name), prefix="team")
    async with serving(mcp) as wire:
        client = wire.modern()
        listed: list[Any] = []
        cursor: str | None = ""
        while cursor is not None:
            page = (await get(client, "skills/list", cursor=cursor))["result"]
            assert {"ttlMs", "cacheScope"} <= page.keys()
            listed += page["skills"]
            cursor = page.get("nextCursor")
        assert [each["frontmatter"]["name"] for each in listed] == ["one", "two", "three"]
        for entry in listed:
            found = (await get(client, "skills/get", uri=entry["uri"]))["result"]
            assert found["skill"] == entry
            assert {"ttlMs", "cacheScope"} <= found.keys()
            for file in entry["resources"]:
                headers = {"mcp-name": file["uri"]}
                read = await client.start("resources/read", {"uri": file["uri"]}, headers=headers).result()
                (content,) = read["contents"]
                data = b64decode(content["blob"]) if "blob" in content else content["text"].encode()
                assert (len(data), f"sha256:{hashlib.sha256(data).hexdigest()}") == (file["size"], file["digest"])


async def test_folders_are_read_and_files_are_not(tmp_path: Path) -> None:
    mcp = MCPServer("t")
    mcp.add_skill(skill(tmp_path, "one"))
    async with serving(mcp) as wire:
        client = wire.modern()
        found = (await get(client, "resources/directory/read", uri="skill://one"))["result"]["resources"]
        assert [(each["name"], each["mimeType"]) for each in found] == [
            ("one", "text/markdown"),
            ("templates", "inode/directory"),
        ]
        inside = (await get(client, "resources/directory/read", uri="skill://one/templates"))["result"]["resources"]
        assert [each["uri"] for each in inside] == ["skill://one/templates/a.bin"]
        other: tuple[Any, ...] = ("skill://one/SKILL.md", "skill://one/", "skill://on", "skill://other", "", 5)
        for uri in other:
            error = (await get(client, "resources/directory/read", uri=uri))["error"]
            assert error["code"] == -32602
        for uri in ("skill://one", "skill://other/SKILL.md", None):
            assert (await get(client, "skills/get", uri=uri))["error"]["code"] == -32602


async def test_they_are_declared_since_2026_07_28_and_while_there_are_any(tmp_path: Path) -> None:
    mcp = MCPServer("t")
    mcp.add_skill(skill(tmp_path, "one"))
    async with serving(mcp) as wire:
        client = wire.modern()
        capabilities = (await client.start("server/discover").result())["capabilities"]
        assert capabilities["extensions"] == {SKILLS: {"directoryRead": True}}
        assert "resources" in capabilities
        assert "extensions" not in (await wire.initialize(LEGACY).result())["capabilities"]
        session = await wire.open(LEGACY)
        assert (await session.start("skills/list").error())["code"] == -32601
        assert len((await session.start("resources/list").result())["resources"]) == 2
        for resource in mcp.registry.resources:
            mcp.remove_resource(resource.uri)
        assert "extensions" not in (await client.start("server/discover").result())["capabilities"]


async def test_a_guarded_skill_is_hidden_from_those_without_its_scope(tmp_path: Path) -> None:
    auth = BearerAuth(verifier(), resource=RESOURCE, required_scopes=["mcp:read"], now=lambda: float(NOW))
    mcp = MCPServer("t", auth=auth)
    mcp.add_skill(skill(tmp_path, "secret"), auth=require_scopes("mcp:write"), hide=True)
    mcp.add_skill(skill(tmp_path, "open"))
    async with serving(mcp) as wire:
        reader, writer = wire.modern(headers=READ), wire.modern(headers=WRITE)
        for client, names in ((reader, ["open"]), (writer, ["secret", "open"])):
            listed = (await get(client, "skills/list"))["result"]["skills"]
            assert [each["frontmatter"]["name"] for each in listed] == names
        for method, uri in (("skills/get", "skill://secret/SKILL.md"), ("resources/directory/read", "skill://secret")):
            assert await reader.start(method, {"uri": uri}).head() == 403
            assert "result" in await get(writer, method, uri=uri)
        headers = {"mcp-name": "skill://secret/templates/a.bin"}
        assert await reader.start("resources/read", {"uri": headers["mcp-name"]}, headers=headers).head() == 403


def test_a_skill_is_served_once(tmp_path: Path) -> None:
    mcp = MCPServer("t")
    root = skill(tmp_path, "one")
    mcp.add_skill(str(root))
    with pytest.raises(ValueError, match="served already"):
        mcp.add_skill(root)
