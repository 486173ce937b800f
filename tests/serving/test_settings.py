import os
import re
from pathlib import Path

import pytest

from trio_mcp.serving import settings
from trio_mcp.serving.setting_types import duration_text, parse_duration, parse_size, size_text
from trio_mcp.serving.settings import Settings, SettingsError, load, load_one, sources
from trio_mcp.serving.settings_report import describe, explain, ignored, unknown, unread

KEY = "k" * 32


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("TRIO_MCP_") or name in ("PORT", "LOG_LEVEL", "POD_NAME"):
            monkeypatch.delenv(name)


def told(**flags: object) -> dict[str, tuple[str, str]]:
    return {row.name: (row.value, row.source) for row in explain(**flags)}


def test_the_strongest_source_wins_and_explain_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text('port = 1\nhost = "a"\nkeepalive = "1s"\ndrain-timeout = 5\npath = "/x"\n')
    env_file = tmp_path / "node.env"
    env_file.write_text("TRIO_MCP_PORT=2\nTRIO_MCP_HOST=b\nTRIO_MCP_KEEPALIVE=2s\nTRIO_MCP_DRAIN_TIMEOUT=6\n")
    monkeypatch.setenv("TRIO_MCP_PORT", "3")
    monkeypatch.setenv("TRIO_MCP_HOST", "c")
    found = told(port=4, config=config, env_file=env_file)
    assert found["port"] == ("4", "flag --port")
    assert found["host"] == ("c", "environment TRIO_MCP_HOST")
    assert found["keepalive"] == ("2s", f"{env_file}: TRIO_MCP_KEEPALIVE")
    assert found["drain_timeout"] == ("6s", f"{env_file}: TRIO_MCP_DRAIN_TIMEOUT")
    assert found["path"] == ("/x", f"{config}: path")
    assert found["max_sessions"] == ("10000", "default")
    assert load(port=4, config=config, env_file=env_file).port == 4


def test_the_files_may_be_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("port = 9")
    monkeypatch.setenv("TRIO_MCP_CONFIG", str(tmp_path / "node.toml"))
    assert Settings().port == 9


@pytest.mark.parametrize(
    ("variable", "text", "name", "expected"),
    [
        ("PORT", "9000", "port", 9000),
        ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
        ("POD_NAME", "mcp-0", "node_id", "mcp-0"),
        ("TRIO_MCP_ALLOWED_HOSTS", "a.example, b.example,", "allowed_hosts", ("a.example", "b.example")),
        ("TRIO_MCP_MAX_BODY", "64k", "max_body", 65536),
        ("TRIO_MCP_ACCESS_LOG", "false", "access_log", False),
        ("TRIO_MCP_PORT", "", "port", 8000),
    ],
)
def test_a_variable_sets_its_setting(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, name: str, expected: object
) -> None:
    monkeypatch.setenv(variable, text)
    assert getattr(load(), name) == expected


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("warn", "WARNING"),
        ("fatal", "CRITICAL"),
        ("20", "INFO"),
        ("15", "INFO"),
        ("NOTSET", "DEBUG"),
        (" error ", "ERROR"),
    ],
)
@pytest.mark.parametrize("variable", ["LOG_LEVEL", "TRIO_MCP_LOG_LEVEL"])
def test_loggings_own_names_and_numbers_are_levels(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, level: str
) -> None:
    monkeypatch.setenv(variable, text)
    assert load().log_level == level
    assert ignored() == []


@pytest.mark.parametrize(
    ("variable", "text"), [("PORT", "tcp://10.0.0.1:80"), ("PORT", "70000"), ("LOG_LEVEL", "trace")]
)
def test_a_platforms_variable_that_is_meant_for_something_else_is_ignored_and_ours_is_an_error(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    monkeypatch.setenv(variable, text)
    assert load() == Settings()
    assert sources() == {}
    assert ignored() == [variable]
    monkeypatch.setenv(f"TRIO_MCP_{variable}", text)
    with pytest.raises(SettingsError, match=f"or unset TRIO_MCP_{variable}"):
        load()


def test_a_redis_url_without_a_secret_may_be_another_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://localhost")
    with pytest.raises(SettingsError, match="or unset REDIS_URL"):
        load()


def test_our_own_variable_wins_over_the_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1")
    monkeypatch.setenv("TRIO_MCP_PORT", "2")
    assert load().port == 2


def test_lists_may_be_given_repeated_or_with_commas() -> None:
    assert load(bind=["a:1,b:2", "unix:/c"]).binds == ("a:1", "b:2", "unix:/c")


def test_without_binds_the_host_and_port_are_one() -> None:
    assert load(port=1).binds == ("127.0.0.1:1",)
    assert load(host="::1", port=1).binds == ("[::1]:1",)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1h", 3600), ("500ms", 0.5), ("1h30m", 5400), ("2.5", 2.5), (7, 7), ("1d", 86400)],
)
def test_durations_are_read_as_people_write_them(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "5x", "5 m", "m5", "nan", "inf", True, None, "30s5"])
def test_what_is_not_a_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "count"), [("4MiB", 4 << 20), ("64k", 65536), ("1MB", 10**6), ("512", 512), (9, 9)])
def test_sizes_are_read_as_people_write_them(text: object, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "MiB", "4 furlongs", "-1", None, True, 1.5])
def test_what_is_not_a_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(text)


@pytest.mark.parametrize("seconds", [0, 0.25, 0.5, 1.5, 15, 60, 75, 300, 1800, 3600, 5400])
def test_a_duration_reads_back_as_written(seconds: float) -> None:
    assert parse_duration(duration_text(seconds)) == seconds


@pytest.mark.parametrize("count", [0, 1, 1000, 32 << 10, 4 << 20, 1 << 30])
def test_a_size_reads_back_as_written(count: int) -> None:
    assert parse_size(size_text(count)) == count


def test_a_wrong_value_is_told_with_where_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIO_MCP_PORT", "eighty")
    with pytest.raises(SettingsError) as caught:
        load(keepalive="0")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("port (environment TRIO_MCP_PORT): input should be a valid integer")
    assert lines[0].endswith("; set it right, or unset TRIO_MCP_PORT")
    assert lines[1] == "keepalive (flag --keepalive): input should be greater than 0"


def test_an_unknown_key_of_the_config_file_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("max-sesions = 5")
    with pytest.raises(SettingsError, match=r"unknown setting \(.*max-sesions\); did you mean max_sessions\?"):
        load(config=tmp_path / "node.toml")


def test_an_unknown_variable_is_told_with_the_nearest_name() -> None:
    environ = {"TRIO_MCP_PROT": "1", "TRIO_MCP_QQQQQQ": "", "TRIO_MCP_SECRET_FILE": "", "TRIO_MCP_PORT": "", "HOME": ""}
    assert unknown(environ) == {"TRIO_MCP_PROT": "TRIO_MCP_PORT", "TRIO_MCP_QQQQQQ": None}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", None, "cannot read .*a.toml: No such file or directory"),
        ("a.toml", b"port = ", "is not TOML"),
        ("a.env", b"# fine\nnonsense", r"a.env:2: expected NAME=value"),
        ("a.env", b"\xff\xfe", "it is not UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, text: bytes | None, message: str) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(SettingsError, match=message):
        load(**{"config" if name.endswith("toml") else "env_file": path})


def test_an_env_file_may_have_comments_exports_and_quotes(tmp_path: Path) -> None:
    path = tmp_path / "node.env"
    path.write_text("# a comment\n\nexport TRIO_MCP_HOST='a b'\nTRIO_MCP_PATH=/x # why\nPORT=\"5\"\nOTHER=1\n")
    found = load(env_file=path)
    assert (found.host, found.path, found.port) == ("a b", "/x", 5)


def test_a_secret_is_a_ring_newest_first_and_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIO_MCP_SECRET", f"{KEY}new,{KEY}old")
    found = load()
    assert found.keys == (f"{KEY}new".encode(), f"{KEY}old".encode())
    assert KEY not in repr(found)
    assert KEY not in repr(explain())
    assert told()["secret"] == ("(set)", "environment TRIO_MCP_SECRET")


def test_a_secret_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(KEY + "\n")
    monkeypatch.setenv("TRIO_MCP_SECRET_FILE", str(tmp_path / "secret"))
    assert load().keys == (KEY.encode(),)
    assert told()["secret"] == ("(set)", "environment TRIO_MCP_SECRET_FILE")


def test_a_short_secret_is_refused_with_the_command_that_makes_a_good_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIO_MCP_SECRET", "hunter2")
    with pytest.raises(SettingsError, match=re.escape(settings.NEW_SECRET)) as caught:
        load()
    assert "hunter2" not in str(caught.value) + str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"keyfile": __file__}, "keyfile is set without certfile"),
        ({"certfile": __file__}, "certfile needs server=hypercorn"),
        ({"certfile": "c.pem"}, r"certfile \(flag --certfile\): path does not point to a file"),
        ({"path": "mcp"}, r"path \(flag --path\)"),
        ({"node_id": "a.b"}, r"node_id \(flag --node-id\)"),
        ({"port": 65536}, r"port \(flag --port\)"),
        ({"require_redis": True}, "require_redis is set without redis_url"),
        ({"redis_url": "redis://a", "secret": KEY, "bind": "fd://3"}, "redis_url with bind fd://3 needs advertise_url"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(flags: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(**flags)


@pytest.mark.parametrize(
    "flags",
    [
        {"bind": "fd://3"},
        {"bind": "fd://3,127.0.0.1:8001", "redis_url": "redis://a", "advertise_url": "http://127.0.0.1:8001"},
    ],
)
def test_an_inherited_socket_is_served_alone_or_with_an_address_for_peers(flags: dict[str, str]) -> None:
    assert load(secret=KEY, **flags).binds[0] == "fd://3"


def test_every_setting_is_described_and_grouped() -> None:
    for row in describe():
        assert row.description.endswith("."), row.name
        assert row.group
        assert row.variables[0] == f"TRIO_MCP_{row.name.upper()}"


def test_a_description_shows_the_default_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9000")
    row = next(row for row in describe() if row.name == "port")
    assert (row.value, row.default, row.source) == ("8000", "8000", "default")


def test_one_setting_is_read_as_a_node_reads_it_whatever_the_others_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    assert load_one("redis_url") is None
    monkeypatch.setenv("TRIO_MCP_PORT", "no port")
    (tmp_path / "url").write_text("redis://a\n")
    monkeypatch.setenv("TRIO_MCP_REDIS_URL_FILE", str(tmp_path / "url"))
    assert load_one("redis_url").get_secret_value() == "redis://a"
    assert load_one("redis_url", "redis://b").get_secret_value() == "redis://b"
    assert load_one("redis_prefix") == "mcp"
    with pytest.raises(SettingsError, match=r"^redis_prefix \(flag --redis-prefix\): "):
        load_one("redis_prefix", "a b")


@pytest.mark.parametrize(
    ("name", "value", "better"),
    [
        ("allowed_hosts", "http://x.com", "'x.com'"),
        ("allowed_hosts", "a.com,x.com/mcp", "'x.com'"),
        ("admin_hosts", "http://metrics", "'metrics'"),
        ("allowed_origins", "https://x.com/", "'https://x.com'"),
        ("allowed_origins", "localhost:3000", "'https://localhost:3000'"),
        ("path", "mcp", "a path begins with a slash and has no space, ? or #, as /mcp"),
        ("node_id", "node_1", "as node1"),
        ("redis_prefix", "a:b", "no space or colon, as mcp"),
        ("advertise_url", "https://10.0.0.7", "as http://10.0.0.7:8000"),
        ("bind", "8000", "as in 127.0.0.1:8000"),
        ("bind", "127.0.0.1:8000,localhost", "'localhost' is not host:port"),
        ("bind", "fd://x", "as in fd://3"),
        ("admin_bind", "9464", "as in 127.0.0.1:9464"),
        ("admin_bind", "unix:", "as unix:/run/mcp.sock does"),
        ("forwarded_allow", "balancer", "does not appear to be an IPv4 or IPv6 network"),
    ],
)
def test_an_entry_that_can_match_nothing_ends_the_start_with_the_form_to_write(
    name: str, value: str, better: str
) -> None:
    with pytest.raises(SettingsError, match=name) as fault:
        load(**{name: value})
    assert better in str(fault.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("allowed_hosts", "x.com:*,*.x.com,*"),
        ("allowed_origins", "http://localhost:*,https://*.x.com,null"),
        ("forwarded_allow", "10.0.0.0/8,fd00::/8,192.0.2.1"),
    ],
)
def test_wildcards_and_networks_are_settings(name: str, value: str) -> None:
    assert getattr(load(**{name: value}), name) == tuple(value.split(","))


def test_variables_without_effect_are_named_with_what_was_meant() -> None:
    environ = {
        "TRIO_MCP_DRAIN_TIMOUT": "1",
        "AUTH_ISSUER": "https://a.example",
        "AUTH_TOKENS": "tokens",
        "AUTH_URL": "x",
    }
    assert unread(environ) == [
        "TRIO_MCP_DRAIN_TIMOUT is no setting of trio-mcp; did you mean TRIO_MCP_DRAIN_TIMEOUT?",
        "AUTH_ISSUER is not read; did you mean TRIO_MCP_AUTH_ISSUER?",
        "AUTH_TOKENS is not read; did you mean TRIO_MCP_AUTH_TOKENS?",
    ]
    assert unread({"AUTH_ISSUER": "https://a.example", "TRIO_MCP_AUTH_ISSUER": "https://b.example"}) == []
