"""A secret reaches no policy, ledger or cassette, and no endpoint that it is not meant for."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.config.enums import CassetteMode
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import ToolRequest, ToolResult
from orchestra_ray.data.catalogue import Catalogue, Entry, Kind, Limits
from orchestra_ray.tracking.secret_forms import MARK
from orchestra_ray.workers.tools.endpoint.model import EndpointModel
from orchestra_ray.workers.tools.registry import make_tools
from orchestra_ray.workers.tools.replay.cassette import Cassette
from orchestra_ray.workers.tools.runtime.executor import CUT_MARK, LONGEST_SECRET, Executor

from .scripts import BadServer, ask, body, settings, whole

SERVER = str(Path(__file__).parent / "mcp_server.py")
ECHOES = '''
import base64, os

def echo(name: str, form: str = "plain") -> str:
    """Gives away a variable."""
    value = os.environ.get(name, name)
    if form == "raise":
        raise ValueError(value)
    if form == "basic":
        return base64.b64encode(f"user:{value}".encode()).decode()
    return value if form == "plain" else int(form) * "x" + value
'''
SECRETS = {
    "PLANTED_API_KEY": "planted-key-77",
    "DATABASE_URL": "postgres://app:pl4nted@db.example/x",
    "ODDLY_NAMED": "kX9vQ2mL8zR4tY7wB3nC",
    "TLS_CERT_AND_KEY": "-----BEGIN PRIVATE KEY-----\nMIIpl4nted\n-----END PRIVATE KEY-----",
}
PLAIN = {"PLAIN_WORDS": "a fox, 3.14 and /usr/bin/env", "GIT_COMMIT": "3f786850e387550fdab8" * 2}


def entry_of(name: str, backend: str, given: Mapping[str, Any], **limits: Any) -> Entry:
    bounds = Limits(retries=0, deadline_s=60.0, **limits)
    return Entry(name, Kind.TOOL, "", backend, Prices(), 0.0, bounds, settings=given)


def results_of(
    entry: Entry,
    spend: Any,
    requests: list[ToolRequest],
    cassette: Callable[[], Cassette] | None = None,
) -> list[ToolResult]:
    catalogue = Catalogue({entry.name: entry}, "p")

    async def main() -> list[ToolResult]:
        tape = None if cassette is None else cassette()
        mode = CassetteMode.LIVE if tape is None else tape.mode
        executor = Executor(catalogue, make_tools(catalogue, mode), spend, tape)
        try:
            return [await executor.execute(request) for request in requests]
        finally:
            await executor.close()

    return asyncio.run(main())


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    (tmp_path / "echoes.py").write_text(ECHOES)
    for name, value in (SECRETS | PLAIN).items():
        monkeypatch.setenv(name, value)
    path = {"path": "echoes:echo", "python_path": [str(tmp_path)]}
    return entry_of("echo", "function", path, max_reply_characters=300)


def test_a_function_cannot_give_a_secret_of_the_environment_to_the_policy(
    echo: Entry, make_request: Callable[..., ToolRequest], local_spend: Any
) -> None:
    asked = [make_request(echo, {"name": name}) for name in SECRETS]
    assert [r.text for r in results_of(echo, local_spend(), asked)] == [MARK] * len(SECRETS)
    asked = [make_request(echo, {"name": name, "form": "raise"}) for name in SECRETS]
    for result in results_of(echo, local_spend(), asked):
        assert result.error == "server_error" and MARK in result.text
        assert "planted" not in result.text and "pl4nted" not in result.text
    asked = [make_request(echo, {"name": name}) for name in PLAIN]
    assert [r.text for r in results_of(echo, local_spend(), asked)] == list(PLAIN.values())
    [basic] = results_of(
        echo, local_spend(), [make_request(echo, {"name": "PLANTED_API_KEY", "form": "basic"})]
    )
    assert MARK in basic.text


def test_a_secret_at_the_cut_of_a_long_reply_is_not_cut_in_two(
    echo: Entry, make_request: Callable[..., ToolRequest], local_spend: Any
) -> None:
    for before in (280, 290, 295, 299, 300):
        asked = make_request(echo, {"name": "PLANTED_API_KEY", "form": f"{before}"})
        [result] = results_of(echo, local_spend(), [asked])
        assert result.text == ("x" * before + MARK)[:300] + (CUT_MARK if before > 286 else "")
    assert LONGEST_SECRET > max(map(len, SECRETS.values()))


@pytest.mark.parametrize("form", ["plain", "raise"])
def test_neither_does_a_recording_hold_it_nor_a_replay_bring_it_back(
    echo: Entry,
    make_request: Callable[..., ToolRequest],
    local_spend: Any,
    tmp_path: Path,
    form: str,
) -> None:
    path = tmp_path / "tape"
    asked = [make_request(echo, {"name": name, "form": form}, call_id=name) for name in SECRETS]
    recorded = results_of(
        echo, local_spend(), asked, lambda: Cassette(path, CassetteMode.RECORD, environ={})
    )
    held = b"".join(file.read_bytes() for file in tmp_path.glob("tape*"))
    for secret in ("planted-key", "pl4nted", SECRETS["ODDLY_NAMED"]):
        assert secret.encode() not in held
    replayed = results_of(
        echo, local_spend(), asked, lambda: Cassette(path, CassetteMode.REPLAY, environ={})
    )
    assert [r.text for r in replayed] == [r.text for r in recorded]
    assert all(MARK in r.text for r in recorded)


def test_an_mcp_server_cannot_give_away_a_literal_of_its_settings(
    make_request: Callable[..., ToolRequest], local_spend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODDLY", "handed on words")
    literals = {
        "DB_PASS": "hunter22",
        "ODD": "q1w2e3r4t5y6u7i8o9p0a1s2d3f4g5h6",
        "LEVEL": "verbose",
    }
    server = {
        "name": "tests",
        "command": [sys.executable, SERVER],
        "env": literals,
        "env_from": ["ODDLY"],
    }
    entry = entry_of("variable", "mcp", {"server": server, "tool": "variable"})
    asked = [make_request(entry, {"name": name}) for name in [*literals, "ODDLY"]]
    texts = [result.text for result in results_of(entry, local_spend(), asked)]
    assert texts == [MARK, MARK, "verbose", MARK]


def test_an_endpoint_gets_nothing_of_the_environment_but_the_key_that_its_entry_names(
    server: BadServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import openai.lib._client_auth as constructor

    named = {"ORG_ID", "PROJECT_ID", "ADMIN_KEY", "WEBHOOK_SECRET", "LOG", "API_KEY", "API_TYPE"}
    for name in named | {"ORGANIZATION", "PROJECT", "DEFAULT_HEADERS", "USER", "BASE_URL"}:
        monkeypatch.setenv(f"OPENAI_{name}", f"leaked-{name}")
    monkeypatch.setenv("OPENAI_LOG", "")
    headers = "X-Leaked: leaked-1\nAuthorization: Bearer leaked-2\nUser-Agent: leaked-3"
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", headers)
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login leaked-4 password leaked-5\ndefault login leaked-6\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MY_ACCESS", "the-right-key")
    for key_env, authorization in (("MY_ACCESS", "Bearer the-right-key"), (None, "Bearer EMPTY")):
        ask(settings(server.url, whole(body()), api_key_env=key_env))
        [sent] = server.seen()["headers"]
        assert sent["authorization"] == authorization
        assert "leaked" not in json.dumps(sent)
        assert not any(name.startswith("openai-") for name in sent)
    source = Path(constructor.__file__).read_text()
    assert "OPENAI_CUSTOM_HEADERS" in source  # or what is tested here has moved


@pytest.mark.parametrize(
    "url",
    ["http://user:s3cr3t@", "ftp://user:s3cr3t@host", "http//user:s3cr3t@host", "user:s3cr3t@host"]
    + ["http:/user:s3 cr3t@[host", "://u:s3cr3t@h", "nothing?api_key=s3cr3t"],
)
def test_a_url_that_cannot_be_used_is_told_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url .*: write it like") as caught:
        EndpointModel(settings(url, {}))
    assert "s3" not in str(caught.value) and "cr3t" not in str(caught.value)


def test_a_reply_costs_little_more_for_it() -> None:
    """A bound so wide that only a search that grows faster than its text can break it."""
    from orchestra_ray.tracking.redact import Redactor

    redactor = Redactor.of({**os.environ, **SECRETS})
    texts = ["://a:" * 40_000, "eyJabcdefgh." * 16_000, "sk-a" * 50_000, "bearer " * 28_000]
    texts += ["authorization" + " " * 100_000, "-----BEGIN PRIVATE KEY-----" * 8_000, "a@" * 90_000]
    for text in texts:
        started_s = time.monotonic()
        redactor.text(text + "@")
        assert time.monotonic() - started_s < 10
