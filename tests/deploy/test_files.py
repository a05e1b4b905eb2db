"""The other files of deploy/, by their schemas and by the tools that read them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_pydantic import ComposeSpecification

from octavo.services.supervisor.settings import read_settings
from octavo.shared.keys import read_key_file

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
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


def test_compose_mounts_files_that_are_there() -> None:
    for service in compose()["services"].values():
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (DEPLOY / volume.split(":")[0]).exists(), volume


def test_compose_names_what_the_balancers_and_prometheus_name() -> None:
    services = compose()["services"]
    replicas = {name for name in services if name.startswith("octavo")}
    for name in ("haproxy.cfg", "prometheus/prometheus.yml"):
        named = set(re.findall(r"\b(octavo-\d):8000", (DEPLOY / name).read_text()))
        assert named == replicas
    (alias,) = re.findall(
        r"default (\w+):8000", (DEPLOY / "nginx/replicas-docker.conf").read_text()
    )
    assert all(alias in services[name]["networks"]["default"]["aliases"] for name in replicas)


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


def manifests() -> list[dict[str, Any]]:
    return documents(DEPLOY / "kubernetes" / "octavo.yaml")


@pytest.mark.parametrize("manifest", manifests(), ids=lambda one: one["kind"])
def test_manifests_fit_their_schemas(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, "1.31", strict=True)


def test_the_runtime_is_a_pod_that_fits_its_schema() -> None:
    (runtime,) = documents(DEPLOY / "kubernetes" / "kserve-runtime.yaml")
    spec = runtime["spec"]
    assert set(spec) == {
        *("annotations", "supportedModelFormats", "multiModel", "containers", "volumes")
    }
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
        documents(DEPLOY / "kubernetes/kserve-runtime.yaml"),
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


def test_systemd_unit_is_sound(tmp_path: Path) -> None:
    """Verified as it is, but for a program that is there."""
    needs("systemd-analyze")
    text = (DEPLOY / "systemd" / "octavo.service").read_text()
    unit = tmp_path / "octavo.service"
    unit.write_text(text.replace("/opt/octavo/bin/octavo", "/bin/true"))
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True
    )
    found = [line for line in checked.stderr.splitlines() if "octavo.service" in line]
    assert checked.returncode == 0 and not found, checked.stderr


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


def test_dockerfile_copies_what_is_there() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.+)$", text, re.M):
        for source in line.split()[:-1]:
            assert (DEPLOY.parent / source).exists(), source
    assert re.search(r"^USER octavo$", text, re.M) and "HEALTHCHECK" in text
