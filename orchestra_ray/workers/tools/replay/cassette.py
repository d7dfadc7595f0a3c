"""Cassettes: what tools answered, recorded once and played back without a call outside.

A call is found by two digests. The *content* is what the tool was asked: its identity and version,
the arguments as canonical JSON, and for a model the question that it is sent. The *sample* is which
asking it was: the episode's seed and the number of calls before it. Prices, aliases and ids are in
neither, so a replay may change them.

- A call with both digests recorded gets that very outcome. A run that is replayed with its seeds
  therefore sees the same bytes, also where one question was answered differently each time, and
  also the same failures.
- A call with only its content recorded (other seeds, or a policy that took another way) gets one
  of the recorded outcomes of that content, picked by its own sample. So another run can replay too:
  the same picks for the same seeds, and a model's variety stays a variety. That another run had
  spent its budget is no outcome for it.

Modes, by what is found (*earlier*: recorded before this cassette was opened, by any run):

| mode           | this very call | the content, earlier  | nothing                      |
| live           | calls          | calls                 | calls                        |
| record         | plays          | calls and records     | calls and records            |
| replay_or_live | plays          | plays and records     | calls and records            |
| replay         | plays          | plays                 | `Fault` NOT_RECORDED         |
| replay_or_fail | plays          | plays                 | `CassetteError`              |

The modes that record leave every call under its own two digests, so what they did can be replayed
byte for byte. They play no failure of the moment (a timeout, an outage): they call again, and an
answer then takes the failure's place. `record` plays its very own calls so that a resumed run or
a call that is issued again is not paid twice; new answers are recorded into a new file.

A cassette stands around retries and deadlines: it holds what the policy saw in the end, failures of
every kind among it. What is stored is free of secrets, and what a recording run returns is what it
stores. Tools that are pure functions of their request, such as simulated experts, need none.
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

from orchestra_ray.config.schema import CassetteConfig, Latencies
from orchestra_ray.config.schema import CassetteMode as Mode
from orchestra_ray.core.faults import Failure, FailureKind, Fault, FaultKind
from orchestra_ray.core.money import Usage
from orchestra_ray.core.records import ToolOption, ToolRequest
from orchestra_ray.core.seeds import derive_seed
from orchestra_ray.data.catalogue import Entry, model_of
from orchestra_ray.tracking.redact import Redactor
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.replay.store import CassetteStore, Key, Recorded

_PLACES = {"base_url", "base_urls", "api_key_env", "cache_dir", "python_path"}
# What no row can hold: it is left out alone, where a disk that fails ends the recording.
_UNSTORABLE = (sqlite3.DataError, sqlite3.IntegrityError, ValueError, OverflowError, TypeError)
_log = logging.getLogger(__name__)


class CassetteError(Exception):
    """A replay that cannot go on; the episode fails."""


class ReplayedFault(Fault):
    """A recorded failure, played back: nothing was called, and `usage` is what it did cost."""

    def __init__(self, recorded: Recorded, kind: FaultKind):
        super().__init__(kind, recorded.text, recorded.usage, service_s=recorded.service_s)


def key_of(request: ToolRequest, version: str) -> Key:
    """The key of a call. `version` names what else decides the answer: code, model, settings."""
    option, model = request.option, model_of(request.option)
    asked: dict[str, Any] = {
        "identity": option.identity,
        "version": version,
        "arguments": request.arguments,
    }
    if model:
        asked["question"] = request.task.question
    if request.messages:
        asked |= {"messages": request.messages, "functions": request.functions, "reply": "turn"}
    if model and model != option.identity:
        asked |= {"model": model, "found": request.found}
    return Key(
        identity=option.identity,
        version=version,
        content=canonical_digest(asked),
        sample=derive_seed(request.seed, request.attempt),
    )


def version_of(entries: Mapping[str, Entry], option: ToolOption) -> str:
    """The version of what answers: of the entry, and of the model and tool that a recipe leans on.

    Each is the version that the catalogue states with a digest of what it sets up; where a server
    is found is not part of it.
    """
    entry = entries[option.identity]
    parts = dict.fromkeys((entry.name, model_of(option), entry.runs or ""))
    return " ".join(_version(entries[name]) for name in parts if name in entries)


def _version(entry: Entry) -> str:
    settings = {name: value for name, value in entry.settings.items() if name not in _PLACES}
    decides = [entry.backend, entry.parser.value, entry.limits.max_output_tokens, settings]
    return f"{entry.version}-{canonical_digest(decides).hex()[:8]}"


def canonical_digest(value: Any) -> bytes:
    """A digest of plain JSON in which the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def open_cassette(config: CassetteConfig) -> "Cassette | None":
    """The one that a configuration describes with its path; None where nothing is recorded."""
    if config.mode is Mode.LIVE or config.path is None:
        return None
    return Cassette(config.path, config.mode, config.latencies)


class Cassette:
    """One open cassette of a process; `ConfigError` where it cannot be opened.

    SQLite has a thread of its own, so the event loop never waits for the disk. When a write fails
    (a full disk), `failure` says so, the log says it once, and the run goes on without recording.
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
        """What is recorded, or what `call` brings, by the mode; raises `Fault` as `call` does."""
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
        made = await _made(call)
        stands = await self.store(key, made)
        # Another maker of the same call may have been first: the text is then its, the bill ours.
        return _outcome(replace(stands, usage=made.usage, service_s=made.service_s), replayed=False)

    async def find(self, key: Key) -> Recorded | None:
        """What this mode plays for `key`."""
        return await self._on_thread(self._find, key)

    async def store(self, key: Key, recorded: Recorded) -> Recorded:
        """Records it without its secrets, unless that fails; returns what stands under `key`."""
        clean = replace(recorded, text=self._without_secrets(recorded.text))
        return await self._on_thread(self._put, key, clean)

    async def close(self) -> None:
        """Ends the thread; what was stored is in the file."""
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
            self._lose(error)
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
            if billed_s is None:  # what it would cost goes by its own seconds
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
            _log.warning("a call of %s is not recorded: %s", key.identity, error)
            return recorded
        except sqlite3.Error as error:
            self._lose(error)
            return recorded

    def _sampled_s(self, store: CassetteStore, key: Key, recorded_s: float) -> float:
        if key.identity not in self._service_times:
            self._service_times[key.identity] = store.service_times(key.identity)
        times = self._service_times[key.identity]
        seed = derive_seed("latency", key.content.hex(), key.sample)
        return times[seed % len(times)] if times else recorded_s

    def _lose(self, error: sqlite3.Error) -> None:
        if self.failure is None:
            self.failure = Failure(FailureKind.INFRASTRUCTURE, str(self.path), str(error))
            _log.warning("cassette %s: %s; going on without recording", self.path, error)

    def _without_secrets(self, text: str) -> str:
        return self._redactor.text(text)


async def _made(call: Callable[[], Awaitable[Reply]]) -> Recorded:
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
