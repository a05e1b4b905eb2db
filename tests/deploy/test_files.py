"""The other files of deploy/, by their schemas and by the tools that read them."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_pydantic import ComposeSpecification

from octavo.services.supervisor.settings import read_settings
from octavo.services.supervisor.supervisor import ENGINE_PATIENCE, FRONTEND_PATIENCE
from octavo.shared.keys import read_key_file

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
PROMETHEUS = "prometheus/prometheus.yml"
METRICS_PORT = 8001
STOP_PATIENCE = FRONTEND_PATIENCE + 2 * ENGINE_PATIENCE
"""What the supervisor may take beyond the drain: frontends, then scheduler, then workers."""
RUNTIME_FIELDS = {
    *("supportedModelFormats", "multiModel", "disabled", "protocolVersions", "workerSpec"),
    *("containers", "volumes", "nodeSelector", "affinity", "tolerations", "labels", "annotations"),
    *("imagePullSecrets", "hostIPC", "grpcEndpoint", "grpcDataEndpoint", "httpDataEndpoint"),
    *("replicas", "storageHelper", "builtInAdapter"),
}
FORMAT_FIELDS = {"name": str, "version": str, "autoSelect": bool, "priority": int}
"""Of KServe's v1alpha1 ServingRuntime and its supportedModelFormats."""
DRAIN = re.compile(r"--shutdown-timeout[=,\s\"]+(\d+)")


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def compose() -> dict[str, Any]:
    found: dict[str, Any] = documents(DEPLOY / "docker-compose.yml")[0]
    return found


def test_compose_fits_its_schema() -> None:
    ours = {name: value for name, value in compose().items() if not name.startswith("x-")}
    spec = ComposeSpecification.model_validate(ours)
    assert spec.services is not None and {"octavo-1", "octavo-2", "haproxy"} <= set(spec.services)


def merged(base: Any, over: Any) -> Any:
    """As compose merges files: mappings key by key; `!reset` takes away."""
    if isinstance(over, dict) and isinstance(base, dict):
        kept = {key: value for key, value in base.items() if key not in over}
        both = {key: merged(base.get(key), value) for key, value in over.items()}
        return {**kept, **{key: value for key, value in both.items() if value is not RESET}}
    return over


class Compose(yaml.SafeLoader):  # type: ignore[misc]
    """YAML with the tags of compose."""


RESET = object()
Compose.add_constructor("!reset", lambda loader, node: RESET)


def test_compose_without_gpus_fits_its_schema() -> None:
    over = yaml.load((DEPLOY / "docker-compose.cpu.yml").read_text(), Compose)
    whole = merged(compose(), {"services": over["services"]})
    ours = {name: value for name, value in whole.items() if not name.startswith("x-")}
    ComposeSpecification.model_validate(ours)
    for name in ("octavo-1", "octavo-2"):
        service = whole["services"][name]
        assert "deploy" not in service, "it would ask for a GPU"
        assert (service["image"], service["build"]["target"]) == ("octavo:cpu", "cpu")
        assert service["build"]["dockerfile"] == "deploy/Dockerfile"
    assert " AS cpu" in (DEPLOY / "Dockerfile").read_text()


def test_compose_mounts_files_that_are_there() -> None:
    for service in compose()["services"].values():
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (DEPLOY / volume.split(":")[0]).exists(), volume


def test_compose_names_what_the_balancers_and_prometheus_name() -> None:
    services = compose()["services"]
    replicas = {name for name in services if name.startswith("octavo")}
    for name, port in (("haproxy.cfg", 8000), (PROMETHEUS, METRICS_PORT)):
        named = set(re.findall(rf"\b(octavo-\d):{port}", (DEPLOY / name).read_text()))
        assert named == replicas
    (alias,) = re.findall(
        r"default (\w+):8000", (DEPLOY / "nginx/replicas-docker.conf").read_text()
    )
    assert all(alias in services[name]["networks"]["default"]["aliases"] for name in replicas)
    assert "blackbox:9115" in (DEPLOY / PROMETHEUS).read_text() and "blackbox" in services


def test_scrapers_need_no_key() -> None:
    """They come to the port that asks for none; the containers listen on it, and publish it not."""
    services, (runtime,) = compose()["services"], documents(KUBERNETES / "kserve-runtime.yaml")
    (pod,) = [one for one in manifests() if one["kind"] == "Deployment"]
    template = pod["spec"]["template"]
    container = template["spec"]["containers"][0]
    (service,) = [one for one in manifests() if one["kind"] == "Service"]
    for arguments in (
        services["octavo-1"]["command"],
        container["args"],
        runtime["spec"]["containers"][0]["args"],
    ):
        assert f"--metrics-port={METRICS_PORT}" in arguments
        assert "--metrics-host=0.0.0.0" in arguments
    assert "ports" not in services["octavo-1"]
    assert [one["targetPort"] for one in service["spec"]["ports"]] == ["http"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert ports["metrics"] == METRICS_PORT
    told = template["metadata"]["annotations"]["prometheus.io/port"]
    assert told == runtime["spec"]["annotations"]["prometheus.kserve.io/port"] == str(METRICS_PORT)


def test_grace_is_longer_than_the_drain() -> None:
    services = compose()["services"]
    drain = int(DRAIN.search(" ".join(services["octavo-1"]["command"]))[1])  # type: ignore[index]
    assert int(services["octavo-1"]["stop_grace_period"].rstrip("s")) >= drain + 10
    (pod,) = [one for one in manifests() if one["kind"] == "Deployment"]
    spec = pod["spec"]["template"]["spec"]
    container = spec["containers"][0]
    drain = int(DRAIN.search(" ".join(container["args"]))[1])  # type: ignore[index]
    wait = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert spec["terminationGracePeriodSeconds"] >= wait + drain + 10


def test_an_inference_service_waits_for_the_drain_of_its_runtime() -> None:
    """A runtime has no field for the grace."""
    (runtime,) = documents(KUBERNETES / "kserve-runtime.yaml")
    (service,) = documents(KUBERNETES / "kserve-service.yaml")
    predictor = service["spec"]["predictor"]
    container = runtime["spec"]["containers"][0]
    drain = int(DRAIN.search(" ".join(container["args"]))[1])  # type: ignore[index]
    wait = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert predictor["terminationGracePeriodSeconds"] >= wait + drain + 5
    assert predictor["model"]["runtime"] == runtime["metadata"]["name"]
    formats = [one["name"] for one in runtime["spec"]["supportedModelFormats"]]
    assert predictor["model"]["modelFormat"]["name"] in formats
    pod = {key: value for key, value in predictor.items() if key not in ("model", "minReplicas")}
    kubernetes_validate.validate(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "x"},
            "spec": {**pod, "containers": runtime["spec"]["containers"]},
        },
        "1.31",
        strict=True,
    )


def test_a_kserve_pod_drains_within_a_minute() -> None:
    """A runtime cannot say how long a pod's grace is; 60 s is what an InferenceService gives."""
    (runtime,) = documents(DEPLOY / "kubernetes" / "kserve-runtime.yaml")
    container = runtime["spec"]["containers"][0]
    drain = int(DRAIN.search(" ".join(container["args"]))[1])  # type: ignore[index]
    wait = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert wait + drain + STOP_PATIENCE < 60


def test_kernels_of_the_image_are_found_wherever_it_runs() -> None:
    """Compiled into the image, they are at its own path: nothing names another, or hides them."""
    (cache,) = re.findall(r"TRITON_CACHE_DIR=(\S+)", (DEPLOY / "Dockerfile").read_text())
    folder = str(Path(cache).parent)
    (pod,) = [one for one in manifests() if one["kind"] == "Deployment"]
    (runtime,) = documents(DEPLOY / "kubernetes" / "kserve-runtime.yaml")
    spec = pod["spec"]["template"]["spec"]
    for container in (*spec["containers"], *runtime["spec"]["containers"]):
        assert "TRITON_CACHE_DIR" not in {one["name"] for one in container["env"]}
    (volume,) = [
        one["name"] for one in spec["containers"][0]["volumeMounts"] if one["mountPath"] == folder
    ]
    (copying,) = spec["initContainers"]
    assert copying["command"][:3] == ["cp", "-r", f"{folder}/."]
    assert copying["volumeMounts"] == [{"name": volume, "mountPath": copying["command"][3]}]
    assert f"cache:{folder}" in compose()["services"]["octavo-1"]["volumes"]


def test_the_build_sees_what_it_copies() -> None:
    ignored = [
        line
        for line in (DEPLOY.parent / ".dockerignore").read_text().splitlines()
        if line[:1] != "#"
    ]
    copied = re.findall(r"^COPY (.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.M)
    assert {".git", "tests"} <= set(ignored)
    for source in " ".join(copied).split():
        assert not any(fnmatch(source, pattern) for pattern in ignored), source


def manifests() -> list[dict[str, Any]]:
    return documents(KUBERNETES / "octavo.yaml")


@pytest.mark.parametrize("manifest", manifests(), ids=lambda one: one["kind"])
def test_manifests_fit_their_schemas(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, "1.31", strict=True)


def test_the_runtime_is_a_pod_that_fits_its_schema() -> None:
    (runtime,) = documents(KUBERNETES / "kserve-runtime.yaml")
    spec = runtime["spec"]
    assert set(runtime) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(spec) <= RUNTIME_FIELDS
    for given in spec["supportedModelFormats"]:
        assert {name: type(value) for name, value in given.items()}.items() <= FORMAT_FIELDS.items()
    assert isinstance(spec["multiModel"], bool)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x"},
        "spec": {"containers": spec["containers"], "volumes": spec["volumes"]},
    }
    kubernetes_validate.validate(pod, "1.31", strict=True)
    assert spec["containers"][0]["name"] == "kserve-container"


def test_flags_and_settings_exist(tmp_path: Path) -> None:
    """What the files pass to `octavo serve` is what it takes."""
    services, (runtime,) = (
        compose()["services"],
        documents(KUBERNETES / "kserve-runtime.yaml"),
    )
    (pod,) = [one for one in manifests() if one["kind"] == "Deployment"]
    (secret,) = [one for one in manifests() if one["kind"] == "Secret"]
    keys = tmp_path / "keys.toml"
    keys.write_text(secret["stringData"]["keys.toml"])
    keys.chmod(0o600)
    assert read_key_file(keys)[0].scopes
    given = [
        services["octavo-1"]["command"],
        pod["spec"]["template"]["spec"]["containers"][0]["args"],
        runtime["spec"]["containers"][0]["args"],
    ]
    for command, *flags in given:
        assert command == "serve"
        read_settings([flag.replace("/etc/octavo/keys.toml", str(keys)) for flag in flags], {})
    read_settings(["--config", str(DEPLOY / "systemd" / "octavo.toml")], {})
    assert tomllib.loads((DEPLOY / "systemd" / "octavo.toml").read_text())


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


@pytest.mark.parametrize("name", ["octavo.service", "octavo@.service"])
def test_systemd_unit_is_sound(name: str, tmp_path: Path) -> None:
    """Verified as it is, but for a program that is there."""
    needs("systemd-analyze")
    text = (DEPLOY / "systemd" / name).read_text()
    unit = tmp_path / name
    unit.write_text(text.replace("/opt/octavo/bin/octavo", "/bin/true"))
    instance = str(unit).replace("@", "@1")
    checked = subprocess.run(
        ["systemd-analyze", "verify", instance], capture_output=True, text=True
    )
    found = [line for line in checked.stderr.splitlines() if "octavo" in line]
    assert checked.returncode == 0 and not found, checked.stderr


def settings(unit: str) -> list[str]:
    """Its lines but comments."""
    lines = (DEPLOY / "systemd" / unit).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_template_is_the_unit_with_names_of_its_own() -> None:
    own = [
        line.replace("/%i.", "/octavo.").replace("/%i", "") for line in settings("octavo@.service")
    ]
    own = [line.removesuffix(" %i") for line in own]
    again = "EnvironmentFile=-/etc/octavo/octavo.env"
    assert own.count(again) == 2
    own.remove(again)
    assert own == settings("octavo.service")


def test_the_units_stop_no_server_that_drains() -> None:
    (line,) = [line for line in settings("octavo.service") if line.startswith("TimeoutStopSec=")]
    drain = read_settings(["--config", str(DEPLOY / "systemd" / "octavo.toml")], {}).server
    assert float(line.partition("=")[2]) >= drain.shutdown_timeout + STOP_PATIENCE


def test_systemd_exposure() -> None:
    needs("systemd-analyze")
    unit = DEPLOY / "systemd" / "octavo.service"
    told = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
    ).stdout
    exposure = float(re.findall(r"exposure level for octavo.service: ([0-9.]+)", told)[0])
    assert exposure <= 3.0


def test_systemd_user_and_folders(tmp_path: Path) -> None:
    """Made in a root of their own."""
    needs("systemd-sysusers")
    (tmp_path / "etc").mkdir()
    command = ["systemd-sysusers", f"--root={tmp_path}", str(DEPLOY / "systemd/octavo.sysusers")]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert "octavo:" in (tmp_path / "etc" / "passwd").read_text()
    (tmp_path / "etc" / "octavo").mkdir()
    secrets = tmp_path / "etc" / "octavo" / "octavo.env"
    secrets.touch(0o644)
    file = str(DEPLOY / "systemd" / "octavo.tmpfiles")
    command = ["systemd-tmpfiles", f"--root={tmp_path}", "--create", file]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0 and "rror" not in made.stderr, made.stderr
    if os.getuid() == 0:
        assert stat.S_IMODE((tmp_path / "var/lib/octavo").stat().st_mode) == 0o750
        assert stat.S_IMODE(secrets.stat().st_mode) == 0o600


def test_dockerfile_copies_what_is_there() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.+)$", text, re.M):
        for source in line.split()[:-1]:
            assert (DEPLOY.parent / source).exists(), source
    assert re.search(r"^USER octavo$", text, re.M) and "HEALTHCHECK" in text
