"""Checks of the place where a run starts: folder, recording, port, model, CPUs, GPUs. No Ray."""

import json
import os
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from orchestra_ray.config.derived import cassette_of, run_folder
from orchestra_ray.config.errors import BadValue
from orchestra_ray.config.model_folder import not_from_hub
from orchestra_ray.config.plan.bundles import Bundle, bundles
from orchestra_ray.config.schema import Config

HUB_DEADLINE_S = 10.0
MAY_CHANGE = ("cluster", "tracking", "runs_dir", "cassette", "spend")  # when a run is resumed


def check_start(config: Config, resume: bool = False) -> None:
    """Raises `BadValue` if the run cannot start here."""
    if resume:
        check_same_run(config)
    else:
        check_run_folder(config)
    check_recording(config)
    check_model_reachable(config)
    if config.cluster.address is None:
        check_port(config.cluster.dashboard_port)
        check_resources(config, config.cluster.cpus or os.cpu_count() or 1)


def check_run_folder(config: Config) -> None:
    """Raises `BadValue` if the run folder exists: a run never writes into another's."""
    folder = run_folder(config)
    if folder.exists():
        raise BadValue("name", f"the run folder {folder} exists", "choose another name or move it")


def check_same_run(config: Config) -> None:
    """Raises `BadValue` unless the run can be resumed: only sections in `MAY_CHANGE` may differ."""
    file = run_folder(config) / "config.yaml"
    if not file.is_file():
        raise BadValue("name", f"there is no run to resume in {file.parent}", "drop --resume")
    before = yaml.safe_load(file.read_text(encoding="utf-8"))
    now = json.loads(json.dumps(asdict(config)))
    same = [section for section in now if section not in MAY_CHANGE]
    other = difference({key: before.get(key) for key in same}, {key: now[key] for key in same})
    if other is not None:
        problem = f"the run in {file.parent} was made with {other[1]}"
        raise BadValue(other[0], problem, "give that, or choose another name")


def difference(before: Any, now: Any, key: str = "") -> tuple[str, str] | None:
    """Returns the first dotted key below `key` whose value differs, and its old value as JSON."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return None if before == now else (key, json.dumps(before))
    found = (
        difference(before.get(name), now.get(name), f"{key}.{name}" if key else name)
        for name in {**before, **now}
    )
    return next(filter(None, found), None)


def check_recording(config: Config) -> None:
    """Raises `BadValue` if a mode that only replays has no recording."""
    path = Path(str(cassette_of(config).path))
    if not config.cassette.mode.calls and not path.is_file():
        problem = f"{path}: no such recording"
        raise BadValue("cassette.path", problem, "record it with cassette.mode=record")


def check_port(port: int | None) -> None:
    """Raises `BadValue` if the dashboard's port on this machine is in use."""
    if port is None:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            key, reason = "cluster.dashboard_port", os.strerror(error.errno or 0)
            raise BadValue(key, f"port {port}: {reason}", "choose a free port or null") from None


def check_resources(config: Config, cpus: float, gpus: float | None = None) -> None:
    """Raises `BadValue` if the bundles need more than is available. gpus: None if unknown."""
    needs = bundles(config)
    _enough("CPU", sum(b.all_cpus for b in needs), cpus, max(needs, key=lambda b: b.all_cpus))
    if gpus is not None:
        _enough("GPU", sum(b.all_gpus for b in needs), gpus, max(needs, key=lambda b: b.all_gpus))


def check_model_reachable(config: Config) -> None:
    """Raises `BadValue` if the model is no folder, not in the Hub's cache, and not on the Hub."""
    path = config.model.path
    if path is None or Path(path).is_dir():
        return
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        if not isinstance(try_to_load_from_cache(path, "config.json"), str):
            HfApi().model_info(path, timeout=HUB_DEADLINE_S)
    except Exception as error:  # the Hub's client lets any error of its HTTP library through
        raise not_from_hub(path, error) from None


def _enough(kind: str, needed: float, available: float, largest: Bundle) -> None:
    if round(needed, 4) <= available:  # Ray counts ten-thousandths
        return
    each = largest.cpus if kind == "CPU" else largest.gpus
    problem = f"the run needs {needed:g} {kind}s, the cluster has {available:g}"
    largest_use = f"{largest.count} x {each:g} {kind} for each {largest.role}"
    raise BadValue(largest.knob, problem, f"lower {largest.knob} ({largest_use})")
