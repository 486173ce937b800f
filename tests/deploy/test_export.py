"""`trio-mcp export`, and that what lies in `deploy/` and `k8s/` is what it makes."""

from pathlib import Path

import pytest
import yaml

from tests.deploy.shipped import DEPLOY, K8S
from trio_mcp.cli import execute
from trio_mcp.cli.export import traefik_dynamic
from trio_mcp.cli.export.files import compose_files, kubernetes_files
from trio_mcp.cli.export.template import render

Printed = pytest.CaptureFixture[str]

BY_HAND = {
    DEPLOY: {"README.md", ".env", "systemd/trio-mcp.service", "systemd/trio-mcp.socket"},
    K8S: {"README.md"},
}
"""What export does not make."""


@pytest.mark.parametrize(("folder", "made"), [(DEPLOY, compose_files(3, checkout="..")), (K8S, kubernetes_files(3))])
def test_the_folders_hold_what_export_makes_for_three_nodes_byte_for_byte(folder: Path, made: dict[str, str]) -> None:
    there = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    kept = {name for name in there if "__pycache__" not in name} - BY_HAND[folder]
    assert kept == set(made)
    for name, text in made.items():
        assert there[name].read_bytes() == text.encode(), f"{name}: run trio-mcp export --output {folder} --force"


@pytest.mark.parametrize("kind", ["compose", "traefik", "k8s"])
def test_what_is_printed_is_what_is_written(capsys: Printed, tmp_path: Path, kind: str) -> None:
    assert execute(["export", kind, "--nodes", "2"]) == 0
    printed = capsys.readouterr().out
    assert execute(["export", kind, "--nodes", "2", "--output", str(tmp_path)]) == 0
    written = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.yaml")}
    match kind:
        case "compose":
            assert printed == written[Path("compose.yaml")]
        case "traefik":
            assert printed == written[Path("dynamic/mcp.yaml")]
        case _:
            base = [
                text for path, text in written.items() if path.parts[0] == "base" and "kustomization" not in path.name
            ]
            objects = [each for text in base for each in yaml.safe_load_all(text)]
            streamed = list(yaml.safe_load_all(printed))
            assert sorted(map(str, streamed)) == sorted(map(str, objects))


def test_the_stream_for_kubernetes_begins_with_the_namespace_of_the_rest(capsys: Printed) -> None:
    assert execute(["export", "k8s"]) == 0
    first = next(iter(yaml.safe_load_all(capsys.readouterr().out)))
    assert (first["kind"], first["metadata"]["name"]) == ("Namespace", "mcp")


@pytest.mark.parametrize("count", [1, 2, 5])
def test_as_many_nodes_as_were_asked_for_are_in_every_file(count: int) -> None:
    names = [f"node{number}" for number in range(1, count + 1)]
    files = compose_files(count, header_routes=True)
    assert [name for name in yaml.safe_load(files["compose.yaml"])["services"] if name.startswith("node")] == names
    http = yaml.safe_load(files["traefik/dynamic/mcp.yaml"])["http"]
    urls = [{"url": f"http://{name}:8000"} for name in names]
    for service in ("mcp", "mcp-new", "mcp-any", "app"):
        assert http["services"][service]["loadBalancer"]["servers"] == urls
    assert {f"mcp-{name}" for name in names} < set(http["routers"])
    hpa = yaml.safe_load(kubernetes_files(count)["base/hpa.yaml"])
    assert hpa["spec"]["minReplicas"] == count


def test_header_routes_are_written_with_the_compose_files(tmp_path: Path) -> None:
    assert execute(["export", "compose", "--header-routes", "-o", str(tmp_path)]) == 0
    written = (tmp_path / "traefik/dynamic/mcp.yaml").read_text()
    assert written == traefik_dynamic([f"http://node{n}:8000" for n in (1, 2, 3)], header_routes=True)


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["k8s", "--header-routes"], "which pods do not have"),
        (["compose", "--header-routes"], "--output"),
        (["compose", "--nodes", "0"], "Must be >= 1"),
        (["k8s", "--checkout", ".."], "for compose only"),
        (["swarm"], "compose"),
    ],
)
def test_what_cannot_be_exported_is_exit_code_2_with_the_reason(capsys: Printed, argv: list[str], word: str) -> None:
    assert execute(["export", *argv]) == 2
    assert word in capsys.readouterr().err


def test_a_file_that_somebody_has_edited_is_overwritten_only_by_force(capsys: Printed, tmp_path: Path) -> None:
    command = ["export", "traefik", "--output", str(tmp_path)]
    assert execute(command) == 0
    (tmp_path / "traefik.yaml").write_text("mine")
    (tmp_path / "dynamic/mcp.yaml").unlink()
    assert execute(command) == 1
    assert "traefik.yaml" in capsys.readouterr().err
    assert (tmp_path / "traefik.yaml").read_text() == "mine"
    assert not (tmp_path / "dynamic/mcp.yaml").exists(), "all or nothing"
    assert execute([*command, "--force"]) == 0
    assert (tmp_path / "traefik.yaml").read_text() != "mine"


def test_a_file_that_is_no_text_has_been_edited_too(capsys: Printed, tmp_path: Path) -> None:
    (tmp_path / "traefik.yaml").write_bytes(b"\xff")
    assert execute(["export", "traefik", "--output", str(tmp_path)]) == 1
    assert "holds files that differ: traefik.yaml" in capsys.readouterr().err


def test_where_nothing_can_be_written_is_told_without_a_traceback(capsys: Printed, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert execute(["export", "traefik", "--output", str(tmp_path / "file")]) == 1
    err = capsys.readouterr().err
    assert err == f"trio-mcp: cannot write {tmp_path}/file: File exists\n"


def test_a_template_repeats_leaves_out_and_fills_in() -> None:
    text = "a\n%% each node\n%% if loud\n@name@!\n%% end\n%% if not loud\n@name@ @x@\n%% end\n%% end\nz\n"
    nodes = [{"name": "one"}, {"name": "two"}]
    assert render(text, {"node": nodes, "loud": True}) == "a\none!\ntwo!\nz\n"
    assert render(text, {"node": nodes, "loud": False, "x": 1}) == "a\none 1\ntwo 1\nz\n"


@pytest.mark.parametrize(
    ("text", "error"), [("@nobody@", KeyError), ("%% if a\n", ValueError), ("%% for\n%% end\n", ValueError)]
)
def test_a_template_with_a_mistake_is_an_error(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        render(text, {"a": True})


def test_no_yaml_library_is_needed_to_export() -> None:
    sources = Path(render.__code__.co_filename).parent.glob("*.py")
    assert not [path for path in sources if "import yaml" in path.read_text()]
