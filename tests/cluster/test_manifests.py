"""The files of cluster/ against the schemas they must satisfy, and against this repository."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

REPOSITORY = Path(__file__).parents[2]
CLUSTER = REPOSITORY / "cluster"
RAYJOB_SCHEMA = json.loads((Path(__file__).parent / "rayjob_kuberay_v1.7.0.json").read_text())
RAY_VERSION = re.search(r'"ray\[default\]==([\d.]+)"', (REPOSITORY / "setup.py").read_text())[1]  # type: ignore[index]


@pytest.fixture
def launcher() -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / "aws.yaml").read_text())


@pytest.fixture
def rayjob() -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / "rayjob.yaml").read_text())


def test_the_launcher_file_satisfies_the_schema_that_ships_with_ray(
    launcher: dict[str, Any],
) -> None:
    validate_config(prepare_config(launcher))


@pytest.mark.parametrize("path", [["provider", "security_group", "Name"], ["max_worker"]])
def test_ray_refuses_a_launcher_file_with_an_unknown_field(
    launcher: dict[str, Any], path: list[str]
) -> None:
    _put(launcher, path, 1)
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(launcher))


def test_the_launcher_has_a_gpu_and_a_cpu_group_that_scale(launcher: dict[str, Any]) -> None:
    types = prepare_config(launcher)["available_node_types"]
    for name in ("gpu", "cpu"):
        assert types[name]["min_workers"] < types[name]["max_workers"] <= launcher["max_workers"]
    assert types["gpu"]["resources"]["GPU"] > 0
    assert not types["cpu"]["resources"].get("GPU")
    assert launcher["head_node_type"] == "head"


def test_every_node_of_the_launcher_demands_the_token(launcher: dict[str, Any]) -> None:
    assert "~/.ray/auth_token" in launcher["file_mounts"].values()
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [command for command in launcher[commands] if "ray start" in command]
        assert starts and all("RAY_AUTH_MODE=token" in command for command in starts)


def test_the_rayjob_satisfies_the_custom_resource_definition(rayjob: dict[str, Any]) -> None:
    jsonschema.validate(rayjob, RAYJOB_SCHEMA)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["spec", "entryPoint"], "python jobs/train.py"),
        (["spec", "rayClusterSpec", "workerGroupSpecs", 0, "minReplicas"], "0"),
        (["spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "container"], []),
        (["spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"], 0),
    ],
)
def test_an_unknown_field_or_a_wrong_type_in_a_rayjob_is_refused(
    rayjob: dict[str, Any], path: list[str | int], value: object
) -> None:
    _put(rayjob, path, value)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(rayjob, RAYJOB_SCHEMA)


def test_the_rayjob_has_a_gpu_and_a_cpu_group_that_scale(rayjob: dict[str, Any]) -> None:
    cluster = rayjob["spec"]["rayClusterSpec"]
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    assert cluster["enableInTreeAutoscaling"] is True
    assert groups.keys() == {"gpu", "cpu"}
    for group in groups.values():
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert group["minReplicas"] < group["maxReplicas"]
    assert _container(groups["gpu"])["resources"]["limits"]["nvidia.com/gpu"] > 0
    assert "nvidia.com/gpu" not in _container(groups["cpu"])["resources"]["limits"]


def test_every_pod_of_the_rayjob_has_limits_and_shared_memory_within_them(
    rayjob: dict[str, Any],
) -> None:
    for group in _groups(rayjob):
        resources = _container(group)["resources"]
        assert resources["limits"] == resources["requests"]
        mounts = {one["name"]: one["mountPath"] for one in _container(group)["volumeMounts"]}
        volumes = {one["name"]: one for one in group["template"]["spec"]["volumes"]}
        assert mounts.keys() == volumes.keys()
        assert mounts["shm"] == "/dev/shm"
        memory = volumes["shm"]["emptyDir"]
        assert memory["medium"] == "Memory"
        assert _gib(memory["sizeLimit"]) < _gib(resources["limits"]["memory"])


def test_no_secret_stands_in_a_manifest(rayjob: dict[str, Any]) -> None:
    for group in _groups(rayjob):
        (key,) = (one for one in _container(group)["env"] if one["name"] == "WANDB_API_KEY")
        assert key["valueFrom"].keys() == {"secretKeyRef"} and "value" not in key


def test_the_ray_version_is_the_one_that_setup_py_pins(rayjob: dict[str, Any]) -> None:
    assert rayjob["spec"]["rayClusterSpec"]["rayVersion"] == RAY_VERSION
    images = {_container(group)["image"] for group in _groups(rayjob)}
    assert len(images) == 1 and images.pop().endswith(f"-ray{RAY_VERSION}")
    assert f"-ray{RAY_VERSION} ." in (CLUSTER / "Dockerfile").read_text()


@pytest.mark.parametrize("file", ["aws.yaml", "rayjob.yaml", "Dockerfile", "README.md"])
def test_every_file_of_this_repository_that_is_named_is_there(file: str) -> None:
    text = (CLUSTER / file).read_text()
    for path in re.findall(r"\b(?:jobs|configs|cluster)/[\w./-]*\w", text):
        assert (REPOSITORY / path).exists(), f"cluster/{file} names {path}"


def test_what_the_launcher_mounts_and_the_image_copies_is_there(launcher: dict[str, Any]) -> None:
    mounted = [path for path in launcher["file_mounts"].values() if not path.startswith("~")]
    copied = re.findall(r"^COPY (\S+)", (CLUSTER / "Dockerfile").read_text(), re.MULTILINE)
    assert {"setup.py", "orchestra_ray"} <= set(mounted) & set(copied)
    assert all((REPOSITORY / path).exists() for path in mounted + copied)


def _groups(rayjob: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = rayjob["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def _container(group: dict[str, Any]) -> dict[str, Any]:
    (container,) = group["template"]["spec"]["containers"]
    return container


def _gib(quantity: str) -> int:
    assert quantity.endswith("Gi")
    return int(quantity[:-2])


def _put(tree: Any, path: list[Any], value: object) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {}) if isinstance(tree, dict) else tree[key]
    tree[path[-1]] = copy.copy(value)
