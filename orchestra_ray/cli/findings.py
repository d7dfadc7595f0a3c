"""The checks of `orchestra doctor`: what this machine has and lacks for a run. Starts no Ray."""

import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from orchestra_ray.config.schema import Config
from orchestra_ray.config.start_checks import check_model_reachable, check_port
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.data.catalogue import read_catalogue
from orchestra_ray.sandbox.run import check as check_sandbox
from orchestra_ray.workers.tools.availability import NO_FAISS, has_faiss, is_set, keys_of, left_out

GIB = 2**30
IMPORT_DEADLINE_S = 120
DASHBOARD_PORT = 8_265
WEB_KEY = "TAVILY_API_KEY"
MODULES = ("torch", "transformers", "deepspeed", "vllm", "ray", "wandb", "reasoning_gym")


class Verdict(StrEnum):
    OK = "ok"
    NOTE = "note"  # a run works without it, perhaps more slowly
    FAIL = "fail"  # no run works, or none with this configuration


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table. `detail`: what was found and, unless it is ok, the remedy."""

    subject: str
    verdict: Verdict
    detail: str


def findings(config: Config | None = None) -> Iterator[Finding]:
    """Yields the checks in order, each as soon as it is done; the imports take seconds.

    With a configuration, also the needs of its catalogue, and whether its model can be trained.
    """
    yield _python()
    for module in MODULES:
        yield _module(module)
    yield _compiler()
    yield _sandbox()
    yield _web_search()
    yield _dense_search()
    yield _shared_memory()
    yield _cpus()
    yield _memory()
    yield _loopback()
    yield _dashboard_port()
    if config is not None:
        yield from _keys(config)
        yield from _tools_with_own_schema(config)
        yield from _model(config)


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("Python", Verdict.OK, f"{version}, {sys.executable}")


def _module(name: str) -> Finding:
    """Imports in a separate process: a broken native library may end the process."""
    subject = f"import {name}"
    command = [sys.executable, "-c", f"import {name}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_DEADLINE_S)
    except subprocess.TimeoutExpired:
        return Finding(subject, Verdict.FAIL, f"not done after {IMPORT_DEADLINE_S} s; try again")
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return Finding(subject, Verdict.FAIL, f"{reason}; install again with make install")
    owners = sorted(set(importlib.metadata.packages_distributions().get(name, [])))
    versions = [f"{owner} {importlib.metadata.version(owner)}" for owner in owners]
    return Finding(subject, Verdict.OK, ", ".join(versions))


def _compiler() -> Finding:
    found = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if found:
        return Finding("C++ compiler", Verdict.OK, found)
    return Finding("C++ compiler", Verdict.NOTE, "none; DeepSpeed may ask for it: apt install g++")


def _sandbox() -> Finding:
    """Runs the check that the code tool runs before its first program."""
    reason = check_sandbox()
    if reason is None:
        return Finding("sandbox", Verdict.OK, "bubblewrap, with all restrictions in force")
    detail = f"{reason.removeprefix('sandbox: ')}; tools that run code are absent until then"
    return Finding("sandbox", Verdict.NOTE, detail)


def _web_search() -> Finding:
    if is_set(WEB_KEY):
        return Finding(WEB_KEY, Verdict.OK, "set")
    detail = "not set; web search is absent without it: export a key of tavily.com"
    return Finding(WEB_KEY, Verdict.NOTE, detail)


def _dense_search() -> Finding:
    if has_faiss():
        return Finding("dense search", Verdict.OK, "faiss is installed")
    return Finding("dense search", Verdict.NOTE, NO_FAISS)


def _keys(config: Config) -> Iterator[Finding]:
    """Yields each key that an endpoint of the configuration needs; no executor starts without."""
    for key, entries in keys_of(read_catalogue(config.catalogue)).items():
        users = f"for {', '.join(entries)}"
        if is_set(key):
            yield Finding(key, Verdict.OK, f"set, {users}")
        else:
            yield Finding(key, Verdict.FAIL, f"not set, {users}; export it, or leave them out")


def _tools_with_own_schema(config: Config) -> Iterator[Finding]:
    """Asks the tools that give their own schemas, as a run does."""
    for name, problem, fails in left_out(read_catalogue(config.catalogue)):
        subject = f"tools of {name}"
        if not problem:
            yield Finding(subject, Verdict.OK, "their schemas can be used")
        else:
            yield Finding(subject, Verdict.FAIL if fails else Verdict.NOTE, problem)


def _model(config: Config) -> Iterator[Finding]:
    """Checks the weights, the tokenizer and the chat template of `model.path`."""
    path = config.model.path
    if path is None:
        return
    from orchestra_ray.workers.rollout.model_check import check_model

    try:
        check_model_reachable(config)
        check_model(config, path)
    except ConfigError as error:
        yield Finding("model", Verdict.FAIL, str(error))
    else:
        yield Finding("model", Verdict.OK, f"{path}: weights, tokenizer and chat template fit")


def _shared_memory() -> Finding:
    subject = "/dev/shm"
    if not os.path.isdir(subject):
        return Finding(subject, Verdict.NOTE, "none; Ray puts its objects on disk")
    free = shutil.disk_usage(subject).free
    if free >= GIB:
        return Finding(subject, Verdict.OK, f"{free / GIB:.1f} GiB free")
    detail = f"{free / GIB:.2f} GiB free, so Ray puts objects on disk; docker run --shm-size=2g"
    return Finding(subject, Verdict.NOTE, detail)


def _cpus() -> Finding:
    count = os.cpu_count() or 1
    if count >= 2:
        return Finding("CPUs", Verdict.OK, str(count))
    return Finding("CPUs", Verdict.NOTE, f"{count}; the quick start is made for 2")


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if total >= 8 * GIB:
        return Finding("memory", Verdict.OK, f"{total / GIB:.1f} GiB")
    return Finding("memory", Verdict.NOTE, f"{total / GIB:.1f} GiB; the quick start may need 8")


def _loopback() -> Finding:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", 0))
        except OSError as error:
            detail = f"cannot open a port: {error.strerror}; Ray needs 127.0.0.1"
            return Finding("ports", Verdict.FAIL, detail)
    return Finding("ports", Verdict.OK, "127.0.0.1 opens ports")


def _dashboard_port() -> Finding:
    subject = f"port {DASHBOARD_PORT}"
    try:
        check_port(DASHBOARD_PORT)
    except ConfigError as error:
        return Finding(subject, Verdict.NOTE, str(error))
    return Finding(subject, Verdict.OK, "free for Ray's dashboard")
