import re
import subprocess
import sys
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
import ray
import torch
from ray._private.internal_api import memory_summary
from torch import Tensor

from orchestra_ray.weights.actor import RegistryHandle, fetch, publish, start_registry
from orchestra_ray.weights.buckets import read_bucket, verify_bucket

pytestmark = pytest.mark.cpu
DEADLINE_S = 60.0
OUTSIDE_RAY = """
import sys
from orchestra_ray.weights.actor import fetch
address, namespace, name = sys.argv[1:]
manifest, buckets = fetch(address, namespace, name, 3, 60.0)
print(manifest.version, len(buckets), buckets[0].flags.writeable, int(buckets[0].sum()))
"""


@pytest.fixture
def namespace(ray_cluster: str) -> str:
    return f"weights-{uuid4().hex}"


@pytest.fixture
def registry(namespace: str) -> Iterator[RegistryHandle]:
    registry = start_registry(namespace)
    yield registry
    ray.kill(registry.actor)


def weights(fill: float) -> list[tuple[str, Tensor]]:
    return [(f"layer.{i}", torch.full((256, 64), fill + i)) for i in range(4)]


def test_what_is_published_is_fetched_from_shared_memory(
    ray_cluster: str, namespace: str, registry: RegistryHandle
) -> None:
    sent = publish(registry.actor, 5, weights(1.5), 150_000, DEADLINE_S)
    manifest, buckets = fetch(ray_cluster, namespace, registry.name, 5, DEADLINE_S)
    assert manifest == sent and len(buckets) == 2
    found = {}
    for index, array in enumerate(buckets):
        verify_bucket(array, manifest, index)
        assert not array.flags.writeable
        found |= dict(read_bucket(array, manifest.in_bucket(index)))
    assert all(torch.equal(found[name], tensor) for name, tensor in weights(1.5))


def test_a_process_outside_ray_fetches_by_the_name_of_the_registry(
    ray_cluster: str, namespace: str, registry: RegistryHandle
) -> None:
    publish(
        registry.actor, 3, [("bytes", torch.full((1000,), 2, dtype=torch.uint8))], 4096, DEADLINE_S
    )
    child = subprocess.run(
        [sys.executable, "-c", OUTSIDE_RAY, ray_cluster, namespace, registry.name],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    assert child.stdout.split() == ["3", "1", "False", "2000"]


def test_a_version_that_is_not_there_is_named_beside_the_one_that_is(
    ray_cluster: str, namespace: str, registry: RegistryHandle
) -> None:
    with pytest.raises(LookupError, match="version 1 is not published; the registry holds None"):
        fetch(ray_cluster, namespace, registry.name, 1, DEADLINE_S)
    publish(registry.actor, 1, weights(1.0), 2**20, DEADLINE_S)
    publish(registry.actor, 2, weights(2.0), 2**20, DEADLINE_S)
    with pytest.raises(LookupError, match="version 1 is not published; the registry holds 2"):
        fetch(ray_cluster, namespace, registry.name, 1, DEADLINE_S)


def test_older_versions_leave_the_object_store(ray_cluster: str, registry: RegistryHandle) -> None:
    before = objects_in_store(ray_cluster)
    for version in range(6):
        publish(registry.actor, version, [("w", torch.zeros(2**20))], 2**22, DEADLINE_S)
    deadline_s = time.monotonic() + DEADLINE_S
    while (held := objects_in_store(ray_cluster) - before) != 1 and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert held == 1


def objects_in_store(address: str) -> int:
    summary = memory_summary(address, stats_only=True)
    match = re.search(r"Plasma memory usage \d+ MiB, (\d+) objects", summary)
    assert match is not None
    return int(match[1])
