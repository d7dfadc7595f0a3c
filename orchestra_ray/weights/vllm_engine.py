"""vLLM's weight transfer over Ray's object store: the backend "object_store", and its plugin.

An update has two halves, so that it can fail before the model is touched: `update_weights` fetches
all buckets and checks their bytes, names and shapes against the policy's tensors (see `tensors`);
`finish_weight_update` loads them. An error in the first half leaves the old weights intact and in
use. After an error in the second, the model holds parts of two versions: the engine has to be
replaced, and vLLM refuses further updates.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from vllm.config.weight_transfer import WeightTransferConfig
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)

from orchestra_ray.weights.actor import connect, fetch
from orchestra_ray.weights.buckets import Manifest, read_bucket, verify_bucket
from orchestra_ray.weights.tensors import Shapes, policy_shapes

if TYPE_CHECKING:
    from vllm.config import VllmConfig

BACKEND = "object_store"
LoadWeights = Callable[[Iterable[tuple[str, torch.Tensor]]], object]


@cache  # vLLM may load plugins repeatedly in a process, but a name can be registered once
def register() -> None:
    """Registers the backend with vLLM; the entry point in `vllm.general_plugins`."""
    WeightTransferEngineFactory.register_engine(
        BACKEND, __name__, ObjectStoreWeightTransferEngine.__name__
    )


@dataclass
class RegistryInfo(WeightTransferInitInfo):
    """Where weights are published: GCS address of the cluster, namespace and registry name."""

    address: str
    namespace: str
    registry: str


@dataclass
class VersionInfo(WeightTransferUpdateInfo):
    """The version to load, the deadline, and whether to compare checksums."""

    version: int
    deadline_s: float
    verify: bool = True


class ObjectStoreWeightTransferEngine(WeightTransferEngine[RegistryInfo, VersionInfo]):
    """Runs in each worker process of vLLM, beside the model."""

    init_info_cls = RegistryInfo
    update_info_cls = VersionInfo

    def __init__(
        self,
        config: WeightTransferConfig,
        vllm_config: "VllmConfig",
        device: torch.device,
        model: torch.nn.Module,
    ) -> None:
        super().__init__(config, vllm_config, device, model)
        self._registry: RegistryInfo | None = None
        self._shapes: Shapes = {}
        self._staged: _Staged | None = None

    def init_transfer_engine(self, init_info: RegistryInfo) -> None:
        """Joins the cluster; raises if it is not there."""
        self._shapes = policy_shapes(self.model_config.model)
        connect(init_info.address, init_info.namespace)
        self._registry = init_info

    def start_weight_update(self) -> None:
        self._staged = None

    def receive_weights(self, update_info: VersionInfo) -> None:
        """Fetches and checks every bucket. Errors leave the old weights in use."""
        if self._registry is None:
            raise RuntimeError("the engine has joined no weight registry: call init_transfer first")
        registry = self._registry
        manifest, buckets = fetch(
            registry.address,
            registry.namespace,
            registry.registry,
            update_info.version,
            update_info.deadline_s,
        )
        check_shapes(manifest, self._shapes)
        if update_info.verify:
            for bucket, array in enumerate(buckets):
                verify_bucket(array, manifest, bucket)
        self._staged = _Staged(manifest, buckets)

    def finish_weight_update(self) -> None:
        """Loads the fetched weights. An error leaves the model unusable."""
        if self._staged is None:
            raise RuntimeError("no weights were fetched: call update_weights first")
        staged, self._staged = self._staged, None
        initialize_layerwise_reload(self.model)
        load = cast(LoadWeights, self.model.load_weights)
        load(staged.tensors())
        finalize_layerwise_reload(self.model, self.model_config)
        refresh_tied_heads(self.model)

    def shutdown(self) -> None:
        self._staged = None


def check_shapes(manifest: Manifest, expected: Shapes) -> None:
    """Raises ValueError if names or shapes differ from the expected ones.

    vLLM itself would leave a part of a fused parameter unset if its tensor is missing.
    """
    found = {entry.name: entry.shape for entry in manifest.entries}
    differing = sorted(
        name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
    )
    if differing:
        name = differing[0]
        raise ValueError(
            f"weights version {manifest.version} is not the model's in {len(differing)} tensors: "
            f"{name} has shape {found.get(name)}, the model's {expected.get(name)}"
        )


def refresh_tied_heads(model: torch.nn.Module) -> None:
    """Makes output layers that share the embedding's parameter see its new values.

    On a CPU, vLLM multiplies by a packed copy of the weight, and renews it only for layers that
    received tensors.
    """
    shared = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    for layer in model.modules():
        if isinstance(layer, ParallelLMHead) and shared[id(layer.weight)] > 1:
            layer.quant_method.process_weights_after_loading(layer)


@dataclass(frozen=True)
class _Staged:
    """A version that is fetched but not loaded."""

    manifest: Manifest
    buckets: Sequence[np.ndarray]

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        for bucket, array in enumerate(self.buckets):
            yield from read_bucket(array, self.manifest.in_bucket(bucket))
