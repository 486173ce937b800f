"""The manifests as data: kustomize builds them, Kubernetes would take them, and what they name is there."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.kustomize import UnknownField, build
from tests.deploy.shipped import K8S, OVERLAYS, container, one
from trio_mcp.serving.settings import Settings, load
from trio_mcp.serving.settings_report import unknown

KUBERNETES = ("1.31", "1.34", "1.37")
TRAEFIK_CRDS = {"IngressRoute", "Middleware", "ServersTransport", "TraefikService"}


def _sorted(objects: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(each, sort_keys=True) for each in objects)


@pytest.mark.processes
@pytest.mark.parametrize("folder", OVERLAYS)
def test_kubectl_builds_what_our_own_loader_builds(folder: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed; the loader of our own is all that reads the manifests here")
    built = subprocess.run([kubectl, "kustomize", K8S / folder], capture_output=True, text=True, check=True)
    assert _sorted(list(yaml.safe_load_all(built.stdout))) == _sorted(build(K8S / folder))


def test_the_loader_refuses_what_it_would_leave_out(tmp_path: Any) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: []\nnamePrefix: my-\n")
    with pytest.raises(UnknownField, match="namePrefix"):
        build(tmp_path)


@pytest.mark.parametrize("folder", OVERLAYS)
@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_valid_and_has_no_field_that_kubernetes_does_not_know(folder: str, version: str) -> None:
    for each in build(K8S / folder):
        if each["kind"] not in TRAEFIK_CRDS:
            kubernetes_validate.validate(each, version, strict=True)


def test_the_validation_would_find_a_field_that_is_misspelt() -> None:
    broken = one("Deployment", "mcp")
    broken["spec"]["template"]["spec"]["terminationGracePeriod"] = 45
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES[-1], strict=True)


@pytest.mark.parametrize("folder", OVERLAYS)
def test_everything_is_in_one_namespace_and_no_name_stands_twice(folder: str) -> None:
    objects = build(K8S / folder)
    assert {each["metadata"]["namespace"] for each in objects if each["kind"] != "Namespace"} == {"mcp"}
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(names) == len(set(names))


def test_every_file_of_the_base_is_a_resource() -> None:
    resources = yaml.safe_load((K8S / "base/kustomization.yaml").read_text())["resources"]
    assert {path.name for path in (K8S / "base").glob("*.yaml")} == {*resources, "kustomization.yaml"}


@pytest.mark.parametrize("folder", OVERLAYS)
def test_every_selector_finds_the_pods_it_is_meant_for(folder: str) -> None:
    pods = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in build(K8S / folder)
        if each["kind"] in ("Deployment", "StatefulSet")
    }
    selectors = {
        (each["kind"], each["metadata"]["name"]): _selector(each["spec"])
        for each in build(K8S / folder)
        if each["kind"] in ("Deployment", "StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy")
    }
    assert len(selectors) == 7
    for (kind, name), selector in selectors.items():
        assert [pod for pod, labels in pods.items() if selector.items() <= labels.items()] == [name], kind


def _selector(spec: Mapping[str, Any]) -> dict[str, str]:
    selector = spec.get("selector", spec.get("podSelector"))
    assert isinstance(selector, dict)
    return dict(selector.get("matchLabels", selector))


@pytest.mark.parametrize("folder", OVERLAYS)
def test_routes_services_and_containers_agree_on_names_and_ports(folder: str) -> None:
    objects = {(each["kind"], each["metadata"]["name"]): each for each in build(K8S / folder)}
    (port,) = container(folder)["ports"]
    (service_port,) = objects["Service", "mcp"]["spec"]["ports"]
    assert service_port["targetPort"] == port["name"]
    assert port["containerPort"] == 8000
    for name in ("mcp", "mcp-unavailable"):
        for route in objects["IngressRoute", name]["spec"]["routes"]:
            for middleware in route.get("middlewares", ()):
                assert ("Middleware", middleware["name"]) in objects
            for service in route["services"]:
                assert (service.get("kind", "Service"), service["name"]) in objects
                if "port" in service:
                    assert service["port"] == service_port["name"]
                    assert ("ServersTransport", service["serversTransport"]) in objects
    target = objects["HorizontalPodAutoscaler", "mcp"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) in objects
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container(folder)[probe]["httpGet"]["port"] == port["name"]


@pytest.mark.parametrize("folder", OVERLAYS)
def test_traefik_and_the_other_nodes_reach_a_node_and_only_nodes_reach_redis(folder: str) -> None:
    (rule,) = one("NetworkPolicy", "mcp", folder)["spec"]["ingress"]
    traefik, nodes = rule["from"]
    assert set(traefik) == {"namespaceSelector", "podSelector"}
    assert nodes == {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "mcp"}}}
    assert rule["ports"] == [{"port": 8000, "protocol": "TCP"}]
    redis = one("NetworkPolicy", "mcp-redis", folder)["spec"]
    assert redis["ingress"] == [{"from": [nodes], "ports": [{"port": 6379, "protocol": "TCP"}]}]
    assert "Egress" in redis["policyTypes"]
    assert "egress" not in redis


@pytest.mark.parametrize("folder", OVERLAYS)
def test_a_node_takes_the_settings_it_is_given(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _settings(folder, monkeypatch)
    assert settings.node_id == "mcp-7d9c5b8f6d-x2x4z"
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == "redis://:pass-word_1@mcp-redis:6379/0"
    assert settings.binds == ("0.0.0.0:8000",)
    assert settings.restore is False
    assert settings.allowed_hosts == (("mcp.example.com",) if folder == "overlays/prod" else ("*",))


def _settings(folder: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the node in that container would run with."""
    fields = {"metadata.name": "mcp-7d9c5b8f6d-x2x4z", "status.podIP": "10.0.0.7"}
    secrets = {"secret": "s" * 43, "redis-password": "pass-word_1"}
    values: dict[str, str] = {}
    for variable in container(folder)["env"]:
        match variable:
            case {"value": value}:
                for name, known in values.items():
                    value = value.replace(f"$({name})", known)
            case {"valueFrom": {"fieldRef": {"fieldPath": path}}}:
                value = fields[path]
            case {"valueFrom": {"secretKeyRef": {"name": "mcp", "key": key}}}:
                value = secrets[key]
        values[variable["name"]] = value
        monkeypatch.setenv(variable["name"], value)
    assert values["POD_IP"] == fields["status.podIP"]
    assert not unknown()
    return load()


def test_the_secret_of_the_dev_overlay_is_one_a_node_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = one("Secret", "mcp", "overlays/dev")["stringData"]
    monkeypatch.setenv("TRIO_MCP_SECRET", secret["secret"])
    assert load(redis_url="redis://localhost").keys
    wanted = {
        variable["valueFrom"]["secretKeyRef"]["key"]
        for variable in container()["env"]
        if "secretKeyRef" in variable.get("valueFrom", {})
    }
    assert set(secret) == wanted


@pytest.mark.parametrize("folder", ["base", "overlays/prod"])
def test_no_secret_is_shipped_but_for_development(folder: str) -> None:
    assert not [each for each in build(K8S / folder) if each["kind"] == "Secret"]


@pytest.mark.parametrize("folder", OVERLAYS)
@pytest.mark.parametrize(("kind", "name"), [("Deployment", "mcp"), ("StatefulSet", "mcp-redis")])
def test_the_pods_are_what_a_restricted_namespace_admits(folder: str, kind: str, name: str) -> None:
    assert one("Namespace", "mcp", folder)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = one(kind, name, folder)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for each in pod["containers"]:
        rights = each["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("folder", OVERLAYS)
def test_a_new_node_is_there_before_an_old_one_goes_and_an_apply_takes_none_away(folder: str) -> None:
    spec = one("Deployment", "mcp", folder)["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert "replicas" not in spec
    assert one("HorizontalPodAutoscaler", "mcp", folder)["spec"]["minReplicas"] == 3
    assert one("PodDisruptionBudget", "mcp", folder)["spec"]["maxUnavailable"] == 1


def test_redis_keeps_what_it_was_told_and_evicts_nothing() -> None:
    (redis,) = one("StatefulSet", "mcp-redis")["spec"]["template"]["spec"]["containers"]
    options = dict(zip(redis["args"][::2], redis["args"][1::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert "--requirepass" not in options
    assert {"name": "data", "mountPath": "/data"} in redis["volumeMounts"]


@pytest.mark.parametrize(
    ("folder", "entry_point", "tls"),
    [
        ("base", "websecure", {}),
        ("overlays/dev", "web", None),
        ("overlays/prod", "websecure", {"secretName": "mcp-tls"}),
    ],
)
def test_both_ingress_routes_listen_where_the_overlay_says(folder: str, entry_point: str, tls: Any) -> None:
    for name in ("mcp", "mcp-unavailable"):
        spec = one("IngressRoute", name, folder)["spec"]
        assert spec["entryPoints"] == [entry_point]
        assert spec.get("tls") == tls
