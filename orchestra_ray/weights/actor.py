"""The board where the newest weights hang, and the ways to put them there and to take them.

Invariants: the board holds references, never bytes, and those of one version only. References
travel inside Ray's own messages, where Ray counts them. The bytes belong to the process that
published them and may be lost with it: who takes its place publishes anew.
"""

import logging
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from torch import Tensor

from orchestra_ray.core.process_log import ProcessLog, own_log
from orchestra_ray.weights.buckets import Manifest, TensorEntry, checksum, make_buckets

REGISTRY_NAME = "orchestra_weights"
START_DEADLINE_S = 60.0


@ray.remote(num_cpus=0)
class WeightRegistry:
    """The newest published version."""

    def __init__(self) -> None:
        self._published: tuple[Manifest, Sequence[ObjectRef]] | None = None

    def publish(self, manifest: Manifest, refs: Sequence[ObjectRef]) -> None:
        """Replaces what hangs there. `refs` are those of the buckets, in order."""
        self._published = (manifest, refs)

    def process_log(self) -> ProcessLog:
        return own_log()

    def latest(self) -> int | None:
        """The version that hangs there; None before the first."""
        return None if self._published is None else self._published[0].version

    def get(self, version: int) -> tuple[Manifest, Sequence[ObjectRef]] | None:
        """None where another version hangs there, or none."""
        return self._published if self.latest() == version else None


@dataclass(frozen=True, slots=True)
class WeightRegistryActor:
    """A started board: `actor` for who publishes, `name` for who looks it up."""

    name: str
    actor: ActorHandle


def start_registry(
    namespace: str | None = None, deadline_s: float = START_DEADLINE_S
) -> WeightRegistryActor:
    """Starts the board in a namespace (None: this driver's). It lives as long as its handle."""
    actor = WeightRegistry.options(name=REGISTRY_NAME, namespace=namespace).remote()
    ray.get(actor.latest.remote(), timeout=deadline_s)
    return WeightRegistryActor(REGISTRY_NAME, cast(ActorHandle, actor))


def publish(
    registry: ActorHandle,
    version: int,
    named_tensors: Iterable[tuple[str, Tensor]],
    bucket_bytes: int,
    deadline_s: float,
) -> Manifest:
    """Puts the tensors on the board as `version`, bucket by bucket."""
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
    """Joins the cluster from a process that is no Ray worker, once in that process.

    The engine core of vLLM is a child of the rollout actor, and loads the weights.
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
    # Ray's own handler prints a stack and ends the process there, without vLLM's clean-up.
    signal.signal(signal.SIGTERM, on_sigterm)


def fetch(
    address: str, namespace: str, registry_name: str, version: int, deadline_s: float
) -> tuple[Manifest, Sequence[np.ndarray]]:
    """The manifest and the buckets (uint8, read-only, in shared memory) of a version.

    Raises LookupError where the board holds another one, ValueError where there is no such board,
    `ray.exceptions.GetTimeoutError` past the deadline, which each of the two steps has to itself,
    and `ray.exceptions.ObjectLostError` where the bytes went with their publisher.
    """
    connect(address, namespace)
    registry = ray.get_actor(registry_name, namespace)
    published = ray.get(registry.get.remote(version), timeout=deadline_s)
    if published is None:
        held = ray.get(registry.latest.remote(), timeout=deadline_s)
        raise LookupError(f"weights version {version} is not on the board, which holds {held}")
    manifest, refs = published
    return manifest, ray.get(list(refs), timeout=deadline_s)
