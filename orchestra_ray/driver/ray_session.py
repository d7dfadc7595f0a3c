"""The Ray cluster of a run: an existing one, or a local one that is started for this run."""

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import ray
from ray._private.state import state

from orchestra_ray.config import Config
from orchestra_ray.config.start_checks import check_resources
from orchestra_ray.core.errors import ConfigError, first_line

NAMESPACE = "orchestra"


@dataclass(frozen=True, slots=True)
class Session:
    gcs_address: str
    namespace: str


@contextmanager
def ray_session(config: Config) -> Iterator[Session]:
    """Connects to Ray for the block. Raises `ConfigError` if the cluster is absent or too small."""
    namespace = f"{NAMESPACE}-{config.name}"
    _connect(config, namespace)
    try:
        resources = _resources()
        check_resources(config, resources.get("CPU", 0.0), resources.get("GPU", 0.0))
        yield Session(ray.get_runtime_context().gcs_address, namespace)
    finally:
        ray.shutdown()


def _resources() -> Mapping[str, float]:
    """Returns the resources of the cluster, or the autoscaler's maximum if that is more."""
    most: Mapping[str, float] = state.get_max_resources_from_cluster_config() or {}
    now = ray.cluster_resources()
    return {name: max(most.get(name, 0.0), now.get(name, 0.0)) for name in {*most, *now}}


def _connect(config: Config, namespace: str) -> None:
    cluster = config.cluster
    # Actors select devices for vLLM and DeepSpeed; Ray must hide none from actors without GPUs.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        if cluster.address is not None:
            ray.init(address=cluster.address, namespace=namespace, log_to_driver=False)
        else:
            _start_local(config, namespace)
    except (ConnectionError, ValueError) as error:
        where = cluster.address or "a local cluster"
        reason = first_line(error)
        raise ConfigError(f"cluster.address: cannot join Ray at {where}: {reason}") from None
    if threading.current_thread() is threading.main_thread():
        # Ray's handler would end the process at once, without clean-up.
        signal.signal(signal.SIGTERM, on_sigterm)


def _start_local(config: Config, namespace: str) -> None:
    cluster = config.cluster
    ray.init(
        address="local",
        namespace=namespace,
        num_cpus=cluster.cpus,
        object_store_memory=cluster.object_store_mib * 2**20,
        include_dashboard=cluster.dashboard_port is not None,
        dashboard_port=cluster.dashboard_port,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
