"""Registry of the latest published weights, with functions to publish and fetch them.

Invariants: the registry holds references, never bytes, and of one version only. References are
passed inside Ray's own messages, where Ray counts them. The bytes are owned by the publishing
process and may be lost with it; its replacement has to publish again.
"""

import logging
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import ray
from ray import ObjectRef
from ray.actor import ActorProxy
from torch import Tensor

from orchestra_ray.core.process_log import ProcessLog, own_log
from orchestra_ray.weights.buckets import Manifest, TensorEntry, checksum, make_buckets

REGISTRY_NAME = "orchestra_weights"
START_DEADLINE_S = 60.0


class WeightRegistry:
    """Holds the latest published version."""

    def __init__(self) -> None:
        self._published: tuple[Manifest, Sequence[ObjectRef]] | None = None

    @ray.method
    def publish(self, manifest: Manifest, refs: Sequence[ObjectRef]) -> None:
        """Replaces the published version. `refs` are the buckets, in order."""
        self._published = (manifest, refs)

    @ray.method
    def process_log(self) -> ProcessLog:
        return own_log()

    @ray.method
    def latest(self) -> int | None:
        """Returns the published version; None before the first."""
        return self._version()

    @ray.method
    def get(self, version: int) -> tuple[Manifest, Sequence[ObjectRef]] | None:
        """Returns a version; None if it is not the published one."""
        return self._published if self._version() == version else None

    def _version(self) -> int | None:
        return None if self._published is None else self._published[0].version


RemoteWeightRegistry = ray.remote(num_cpus=0)(WeightRegistry)


@dataclass(frozen=True, slots=True)
class RegistryHandle:
    """A started registry: its `actor` for publishers, its `name` for readers to look it up."""

    name: str
    actor: ActorProxy[WeightRegistry]


def start_registry(
    namespace: str | None = None, deadline_s: float = START_DEADLINE_S
) -> RegistryHandle:
    """Starts the registry in a namespace (None: this driver's); it ends with its handle."""
    actor = RemoteWeightRegistry.options(name=REGISTRY_NAME, namespace=namespace).remote()
    ray.get(actor.latest.remote(), timeout=deadline_s)
    return RegistryHandle(REGISTRY_NAME, actor)


def publish(
    registry: ActorProxy[WeightRegistry],
    version: int,
    named_tensors: Iterable[tuple[str, Tensor]],
    bucket_bytes: int,
    deadline_s: float,
) -> Manifest:
    """Puts the tensors into the object store, bucket by bucket, and publishes them as `version`."""
    entries: list[TensorEntry] = []
    checksums: list[int] = []
    refs: list[ObjectRef] = []
    for bucket_entries, array in make_buckets(named_tensors, bucket_bytes):
        entries += bucket_entries
        checksums.append(checksum(array))
        refs.append(ray.put(array))
    total_bytes = sum(entry.nbytes for entry in entries)
    manifest = Manifest(version, tuple(entries), tuple(checksums), total_bytes)
    ray.get(registry.publish.remote(manifest, refs), timeout=deadline_s)
    return manifest


def connect(address: str, namespace: str) -> None:
    """Joins the cluster from a process that is not a Ray worker, once per process.

    Such a process is vLLM's engine core: a child of the rollout actor that loads the weights.
    """
    if ray.is_initialized():
        return
    on_sigterm = signal.getsignal(signal.SIGTERM)
    ray.init(
        address=address,
        namespace=namespace,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=False,
    )
    # Ray's handler would end the process at once, without vLLM's clean-up.
    signal.signal(signal.SIGTERM, on_sigterm)


def fetch(
    address: str, namespace: str, registry_name: str, version: int, deadline_s: float
) -> tuple[Manifest, Sequence[np.ndarray]]:
    """Returns the manifest and the buckets (uint8, read-only, in shared memory) of a version.

    The deadline applies to each of the two steps, lookup and transfer. Raises LookupError if
    another version is published, ValueError if there is no such registry,
    `ray.exceptions.GetTimeoutError` past the deadline and `ray.exceptions.ObjectLostError` if the
    bytes were lost with their publisher.
    """
    connect(address, namespace)
    registry = cast(ActorProxy[WeightRegistry], ray.get_actor(registry_name, namespace))
    published = ray.get(registry.get.remote(version), timeout=deadline_s)
    if published is None:
        held = ray.get(registry.latest.remote(), timeout=deadline_s)
        raise LookupError(f"weights version {version} is not published; the registry holds {held}")
    manifest, refs = published
    return manifest, ray.get(list(refs), timeout=deadline_s)
