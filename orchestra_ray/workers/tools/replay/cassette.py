"""Cassettes: outcomes of tool calls, recorded once and replayed without calling the tools.

A call has two digests. Its *content* covers the request: the tool's identity and version, the
arguments as canonical JSON, and the question for a model. Its *sample* covers the position: the
episode's seed and the number of calls before this one. Prices, aliases and ids are in neither, so a
replay may change them.

- If both digests are recorded, the call gets exactly that outcome. Replaying a run with its seeds
  therefore gives the same bytes, including failures and different answers to one question.
- If only the content is recorded (other seeds, or another policy), the call gets one of the
  outcomes of that content, selected by its sample: the same for the same seeds, with the variety of
  a model's answers preserved. Refusals by the spend budget of another run are excluded.

Modes, by what is found (*earlier*: recorded before this cassette was opened, by any run):

| mode           | exact call | content, earlier    | nothing              |
| live           | calls      | calls               | calls                |
| record         | replays    | calls and records   | calls and records    |
| replay_or_live | replays    | replays and records | calls and records    |
| replay         | replays    | replays             | `Fault` NOT_RECORDED |
| replay_or_fail | replays    | replays             | `CassetteError`      |

The recording modes store every call under its own two digests, so that the run can be replayed byte
for byte. They do not replay transient failures (a timeout, an outage), but call again, and a
success replaces the failure. `record` replays exact calls so that a resumed run or a reissued call
is not paid for twice; to record new answers, use a new file.

A cassette wraps retries and deadlines: it stores the final outcome that the policy sees, failures
included. Secrets are removed before storing, and a recording run returns the stored text. Tools
that are pure functions of their request, such as simulated experts, need no cassette.
"""

import asyncio
import hashlib
import json
import logging
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestra_ray.config.enums import CassetteMode as Mode
from orchestra_ray.config.enums import Latencies
from orchestra_ray.config.schema import CassetteConfig
from orchestra_ray.core.faults import Failure, FailureKind, Fault, FaultKind
from orchestra_ray.core.money import Usage
from orchestra_ray.core.records import ToolOption, ToolRequest
from orchestra_ray.core.seeds import derive_seed
from orchestra_ray.data.catalogue import Entry, model_of
from orchestra_ray.tracking.redact import Redactor
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.replay.store import CassetteStore, Key, Recorded

_PLACES = {"base_url", "base_urls", "api_key_env", "cache_dir", "python_path"}
# The record cannot be stored and is skipped; any other SQLite error ends the recording.
_UNSTORABLE = (sqlite3.DataError, sqlite3.IntegrityError, ValueError, OverflowError, TypeError)
_log = logging.getLogger(__name__)


class CassetteError(Exception):
    """A replay that cannot continue; the episode fails."""


class ReplayedFault(Fault):
    """A replayed failure: nothing was called, and `usage` is that of the recorded call."""

    def __init__(self, recorded: Recorded, kind: FaultKind):
        super().__init__(kind, recorded.text, recorded.usage, service_s=recorded.service_s)


def key_of(request: ToolRequest, version: str) -> Key:
    """Returns the key of a call. `version` identifies the code, model and settings."""
    option, model = request.option, model_of(request.option)
    content: dict[str, Any] = {
        "identity": option.identity,
        "version": version,
        "arguments": request.arguments,
    }
    if model:
        content["question"] = request.task.question
    if request.messages:
        content |= {"messages": request.messages, "functions": request.functions, "reply": "turn"}
    if model and model != option.identity:
        content |= {"model": model, "found": request.found}
    return Key(
        identity=option.identity,
        version=version,
        content=canonical_digest(content),
        sample=derive_seed(request.seed, request.attempt),
    )


def version_of(entries: Mapping[str, Entry], option: ToolOption) -> str:
    """Returns the version of the entry, and of the model and tool that a recipe uses.

    Each consists of the catalogue's version and a digest of the settings without addresses.
    """
    entry = entries[option.identity]
    parts = dict.fromkeys((entry.name, model_of(option), entry.runs or ""))
    return " ".join(_version(entries[name]) for name in parts if name in entries)


def _version(entry: Entry) -> str:
    settings = {name: value for name, value in entry.settings.items() if name not in _PLACES}
    parts = [entry.backend, entry.parser.value, entry.limits.max_output_tokens, settings]
    return f"{entry.version}-{canonical_digest(parts).hex()[:8]}"


def canonical_digest(value: Any) -> bytes:
    """Returns a digest of plain JSON, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def open_cassette(config: CassetteConfig) -> "Cassette | None":
    """Opens the configured cassette; None if the mode is live or there is no path."""
    if config.mode is Mode.LIVE or config.path is None:
        return None
    return Cassette(config.path, config.mode, config.latencies)


class Cassette:
    """An open cassette; raises `ConfigError` if it cannot be opened.

    SQLite runs in a thread of its own, so the event loop never waits for the disk. If a write fails
    (a full disk), `failure` is set, it is logged once, and the run continues without recording.
    """

    def __init__(
        self,
        path: str | Path,
        mode: Mode,
        latencies: Latencies = Latencies.RECORDED,
        environ: Mapping[str, str] = os.environ,
    ):
        self.path, self.mode = Path(path), mode
        self.failure: Failure | None = None
        self._latencies = latencies
        self._redactor = Redactor.of(environ)
        self._service_times: dict[str, list[float]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cassette")
        self._store: CassetteStore | None = None
        if mode is not Mode.LIVE:
            self._store = self._thread.submit(CassetteStore, self.path, mode.records).result()

    async def play(self, key: Key, call: Callable[[], Awaitable[Reply]]) -> Reply:
        """Returns the recorded or the live outcome, by the mode; raises `Fault` as `call` does."""
        if self.mode is Mode.LIVE:
            return await call()
        found = await self.find(key)
        if found is not None:
            return _outcome(found, replayed=True)
        if self.mode is Mode.REPLAY:
            raise Fault(FaultKind.NOT_RECORDED, "this call was not recorded")
        if self.mode is Mode.REPLAY_OR_FAIL:
            raise CassetteError(
                f"cassette {self.path}: no call of {key.identity} (version {key.version}) with "
                f"content {key.content.hex()}; replay the run that was recorded, or record this one"
            )
        live = await _record_of(call)
        stored = await self.store(key, live)
        # If a concurrent call with this key was stored first, its text is returned with this bill.
        return _outcome(replace(stored, usage=live.usage, service_s=live.service_s), replayed=False)

    async def find(self, key: Key) -> Recorded | None:
        """Returns the outcome to replay for `key` in this mode, None if there is none."""
        return await self._on_thread(self._find, key)

    async def store(self, key: Key, recorded: Recorded) -> Recorded:
        """Stores a redacted record unless that fails; returns the record under `key`."""
        clean = replace(recorded, text=self._without_secrets(recorded.text))
        return await self._on_thread(self._put, key, clean)

    async def close(self) -> None:
        """Closes the file and ends the thread; all stored records are in the file."""
        if self._store is not None:
            await self._on_thread(self._store.close)
            self._store = None
        self._thread.shutdown()

    async def __aenter__(self) -> "Cassette":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _on_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _find(self, key: Key) -> Recorded | None:
        try:
            return self._look_up(key)
        except sqlite3.Error as error:
            if not self.mode.records:
                raise CassetteError(f"cassette {self.path}: cannot be read ({error})") from None
            self._stop_recording(error)
            return None

    def _look_up(self, key: Key) -> Recorded | None:
        if self._store is None:
            return None
        found = self._store.exact(key, lasting=self.mode.records)
        if found is None and self.mode is not Mode.RECORD:
            found = self._store.earlier(key, lasting=self.mode.records)
            if found is not None and self.mode.records:
                found = self._put(key, found)
        if self._latencies is Latencies.SAMPLED and found is not None and found.fault is None:
            usage, billed_s = found.usage, found.usage.billed_s
            if billed_s is None:  # its cost depends on the recorded seconds
                usage = replace(usage, billed_s=found.service_s)
            sampled_s = self._sampled_s(self._store, key, found.service_s)
            found = replace(found, usage=usage, service_s=sampled_s)
        return found

    def _put(self, key: Key, recorded: Recorded) -> Recorded:
        if self._store is None or not self.mode.records or self.failure is not None:
            return recorded
        try:
            public = replace(key, version=self._without_secrets(key.version))
            return self._store.put(public, recorded)
        except _UNSTORABLE as error:
            _log.warning("call of %s not recorded: %s", key.identity, error)
            return recorded
        except sqlite3.Error as error:
            self._stop_recording(error)
            return recorded

    def _sampled_s(self, store: CassetteStore, key: Key, recorded_s: float) -> float:
        if key.identity not in self._service_times:
            self._service_times[key.identity] = store.service_times(key.identity)
        times = self._service_times[key.identity]
        seed = derive_seed("latency", key.content.hex(), key.sample)
        return times[seed % len(times)] if times else recorded_s

    def _stop_recording(self, error: sqlite3.Error) -> None:
        if self.failure is None:
            self.failure = Failure(FailureKind.INFRASTRUCTURE, str(self.path), str(error))
            _log.warning("cassette %s: %s; continuing without recording", self.path, error)

    def _without_secrets(self, text: str) -> str:
        return self._redactor.text(text)


async def _record_of(call: Callable[[], Awaitable[Reply]]) -> Recorded:
    start_s = time.monotonic()
    try:
        reply, fault = await call(), None
        text, usage, service_s = reply.text, reply.usage, reply.service_s
    except Fault as error:
        text, usage, service_s, fault = str(error), error.usage, error.service_s, error
    return Recorded(
        text=text,
        usage=usage or Usage(),
        service_s=time.monotonic() - start_s if service_s is None else service_s,
        fault=fault and fault.kind,
        recorded_at_s=time.time(),
    )


def _outcome(recorded: Recorded, replayed: bool) -> Reply:
    if recorded.fault is None:
        return Reply(recorded.text, recorded.usage, recorded.service_s, replayed)
    if replayed:
        raise ReplayedFault(recorded, recorded.fault)
    raise Fault(recorded.fault, recorded.text, recorded.usage, service_s=recorded.service_s)
