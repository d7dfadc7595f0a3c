"""Probes against real servers: sound, failing, silent and absent ones."""

import json
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra_ray.data.catalogue import Catalogue, load_catalogue
from orchestra_ray.workers.tools import probing
from orchestra_ray.workers.tools.availability import unavailable_entries
from orchestra_ray.workers.tools.probing import Probed, probe

HERE = Path(__file__).parent
FILE = """
models:
  - {{name: nova, description: d, backend: simulated}}
  - name: sound
    description: d
    backend: endpoint
    settings: {{base_urls: ["{chat}"], model: solver, api_key_env: PROBE_KEY}}
  - name: down
    description: d
    backend: endpoint
    settings: {{base_urls: ["{chat}"], model: down}}
  - name: dead
    description: d
    backend: endpoint
    settings: {{base_urls: ["{dead}"], model: m}}
  - name: mute
    description: d
    backend: endpoint
    settings: {{base_urls: ["{mute}"], model: m}}
  - name: half
    description: d
    backend: endpoint
    settings: {{base_urls: ["{dead}", "{chat}"], model: m}}
  - name: unset
    description: d
    backend: endpoint
    settings: {{base_urls: ["{chat}"], model: solver, api_key_env: NO_SUCH_KEY}}
tools:
  - name: mcp-sound
    description: d
    backend: mcp
    parameters: {{properties: {{a: {{type: integer}}}}}}
    settings: {{tool: add, server: {{name: s, command: [{python}, {server}]}}}}
  - name: mcp-other
    description: d
    backend: mcp
    parameters: {{properties: {{a: {{type: integer}}}}}}
    settings: {{tool: no_such_tool, server: {{name: s, command: [{python}, {server}]}}}}
  - name: mcp-dead
    description: d
    backend: mcp
    parameters: {{properties: {{a: {{type: integer}}}}}}
    settings: {{tool: add, server: {{name: gone, url: "{dead}"}}}}
  - name: recipe
    description: d
    backend: recipe
    choices: [{{name: r-1, model: dead, description: d, latency_s: 1}}]
"""


@pytest.fixture
def catalogue(
    chat_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Catalogue]:
    monkeypatch.setenv("PROBE_KEY", "key-of-the-test")
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    monkeypatch.setattr(probing, "PROBE_S", 4.0)
    path = tmp_path / "mine.yaml"
    with socket.socket() as closed, socket.socket() as silent:
        closed.bind(("127.0.0.1", 0))
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        path.write_text(
            FILE.format(
                chat=chat_url,
                dead=f"http://127.0.0.1:{closed.getsockname()[1]}/v1",
                mute=f"http://127.0.0.1:{silent.getsockname()[1]}/v1",
                python=sys.executable,
                server=HERE / "mcp_server.py",
            )
        )
        yield load_catalogue(path)


def test_each_entry_that_reaches_outside_is_tried_side_by_side(catalogue: Catalogue) -> None:
    why, started_s = unavailable_entries(catalogue), time.monotonic()
    found = probe(catalogue, why)
    assert time.monotonic() - started_s < 3 * probing.PROBE_S
    assert why.keys() == {"unset"} and "unset" not in found and "nova" not in found
    assert found["sound"] == found["mcp-sound"] == Probed()
    reasons = {name: str(one.why_not) for name, one in found.items()}
    assert "500: out of order" in reasons["down"]
    assert "connection failed: ConnectError" in reasons["dead"]
    assert "no answer within 4 s" in reasons["mute"]
    assert reasons["mcp-other"] == "s has no tool no_such_tool"
    assert reasons["mcp-dead"].startswith("gone: ")
    assert reasons["recipe"] == "recipe cannot run without dead"
    assert found["half"].why_not is None and "ConnectError" in str(found["half"].remark)


def test_an_endpoint_is_asked_for_one_token_with_its_key(
    catalogue: Catalogue, chat_url: str
) -> None:
    probe(catalogue, {name: "left out" for name in catalogue.entries if name != "sound"})
    with urllib.request.urlopen(f"{chat_url}/seen", timeout=30) as reply:
        seen = json.load(reply)[-1]
    assert (seen["max_tokens"], seen["model"]) == (1, "solver")
    assert seen["key"] == "Bearer key-of-the-test" and len(seen["messages"]) == 1
