"""A policy behind an endpoint, over real HTTP."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from orchestra_ray.config import Config
from orchestra_ray.config.enums import ContextPolicy
from orchestra_ray.core.faults import FailureKind
from orchestra_ray.core.money import Prices
from orchestra_ray.core.policy_names import ORCHESTRATOR
from orchestra_ray.core.records import EpisodeSummary, GroupSpec, Trajectory
from orchestra_ray.core.states import Stop
from orchestra_ray.data.catalogue import Catalogue, Entry, Kind, Limits
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.workers.rollout.chat import Chat
from orchestra_ray.workers.rollout.context import context_of
from orchestra_ray.workers.rollout.endpoint_policy import endpoint_policies
from orchestra_ray.workers.rollout.episode import POLICY, EpisodeContext, run_episode
from orchestra_ray.workers.rollout.parsing import parse_hermes

from .test_episode import Direct

NAME = "gpt"
SAID = "First I ask."
PRICES = Prices(1_250_000_000, 125_000_000, 10_000_000_000)


class Orchestrator(BaseHTTPRequestHandler):
    """Asks the first model on offer, with a second call that is no JSON, then answers its reply."""

    seen: list[dict[str, Any]] = []
    status = 200
    garbled = False
    code: str | None = None  # of a program that it runs in place of asking
    in_content = False  # whether its server leaves calls in the content

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append(body)
        if self.status != 200:
            self.send_error(self.status)
            return
        results = [m["content"] for m in body["messages"] if m["role"] == "tool"]
        told = "\n".join(str(m["content"]) for m in body["messages"])
        if results or "Attempt1" in told:
            message: dict[str, Any] = {"content": f"<answer>{results[:1]}"}
        elif self.code is not None:
            call = {"name": "python", "arguments": {"code": self.code}}
            content = f"<think>\nhm\n</think>\n\n<tool_call>\n{json.dumps(call)}\n</tool_call>"
            function = {"name": "python", "arguments": json.dumps(call["arguments"])}
            message = (
                {"content": content}
                if self.in_content
                else {"content": SAID, "tool_calls": [{"function": function}]}
            )
        else:
            (ask,) = [f["function"] for f in body["tools"] if f["function"]["name"] == "ask"]
            first = ask["parameters"]["properties"]["model"]["enum"][0]
            calls = [("ask", json.dumps({"model": first})), ("ask", "{oops")]
            functions = [{"function": {"name": n, "arguments": a}} for n, a in calls]
            message = {"content": SAID, "tool_calls": functions}
        usage = {"prompt_tokens": 100, "completion_tokens": 20}
        text = json.dumps({"choices": [{"message": message}], "usage": usage}).encode()
        text = b"{oops" if self.garbled else text
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Orchestrator.seen, Orchestrator.status, Orchestrator.garbled = [], 200, False
    Orchestrator.code, Orchestrator.in_content = None, False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Orchestrator)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


RunPolicy = Callable[[ContextPolicy], tuple[Trajectory | None, EpisodeSummary]]


@pytest.fixture
def run_policy(
    url: str,
    chat: Chat,
    catalogue: Catalogue,
    quickstart: Config,
    group: GroupSpec,
    local_spend: Callable[[], Any],
) -> RunPolicy:
    settings = {"base_urls": [url], "model": "m"}
    limits = Limits(retries=0, deadline_s=10)
    entry = Entry(NAME, Kind.MODEL, "", "endpoint", PRICES, 1.0, limits, settings=settings)
    whole = replace(catalogue, entries={**catalogue.entries, NAME: entry})

    def run_policy(policy: ContextPolicy) -> tuple[Trajectory | None, EpisodeSummary]:
        limits = replace(quickstart.rollout, context=policy)
        context = context_of(chat, limits, submit=False)

        async def main() -> tuple[Trajectory | None, EpisodeSummary]:
            tools = Direct(whole, local_spend())
            policies = endpoint_policies(whole, chat, context, tools, submit=False)
            episode_context = EpisodeContext(
                chat, context, parse_hermes, policies, tools, quickstart.model, limits, "sheet"
            )
            return await run_episode(episode_context, group, group.episodes[0])

        return asyncio.run(main())

    return run_policy


@pytest.fixture
def group(sampler: GroupSampler) -> GroupSpec:
    """One that is offered the sandbox."""
    sampled = (sampler.group(n, 1) for n in range(100))
    offered = next(g for g in sampled if g.toolset.option("python") is not None)
    return replace(offered, policy=ORCHESTRATOR + NAME)


@pytest.mark.parametrize("policy", ContextPolicy)
def test_it_has_the_same_functions_and_is_charged_as_the_policy(
    run_policy: RunPolicy, group: GroupSpec, policy: ContextPolicy
) -> None:
    trajectory, summary = run_policy(policy)
    assert trajectory is not None and summary.stop is Stop.ANSWERED, summary
    assert len(Orchestrator.seen) == summary.turns == 2
    names = {function["function"]["name"] for function in Orchestrator.seen[0]["tools"]}
    assert names == {"ask"} | {o.alias for o in group.toolset.options if o.kind == "tool"}
    own = [entry for entry in trajectory.ledger if entry.kind == POLICY]
    assert [entry.charged_nanousd for entry in own] == [100 * 1250 + 20 * 10_000] * 2
    asked = [entry for entry in trajectory.ledger if entry.kind == "model"]
    assert len(asked) == 1 and NAME not in summary.calls
    assert [entry.error for entry in trajectory.ledger if entry.error] == ["bad_json"]
    assert summary.price_nanousd == sum(entry.price_nanousd for entry in trajectory.ledger)
    assert summary.outcomes == {"ok": 3}  # two turns, a call, and none for what is no JSON


def test_it_reads_the_conversation_with_a_result_for_each_call(run_policy: RunPolicy) -> None:
    run_policy(ContextPolicy.TRANSCRIPT)
    messages = Orchestrator.seen[1]["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert messages[1]["content"] == SAID
    ids = [call["id"] for call in messages[1]["tool_calls"]]
    assert ids == [message["tool_call_id"] for message in messages[2:]] and len(set(ids)) == 2
    assert messages[3]["content"].startswith("error: the tool call is not valid JSON")


def test_it_reads_what_is_known_under_rebuild(run_policy: RunPolicy, group: GroupSpec) -> None:
    run_policy(ContextPolicy.REBUILD)
    roles: list[list[str]] = [[m["role"] for m in seen["messages"]] for seen in Orchestrator.seen]
    assert roles == [["system", "user"]] * 2
    last: Mapping[str, str] = Orchestrator.seen[1]["messages"][1]
    assert group.task.question in last["content"] and "Attempt1 answer by " in last["content"]


@pytest.mark.parametrize(
    ("status", "garbled", "error"), [(400, False, "rejected"), (200, True, "bad_reply")]
)
def test_what_is_its_own_doing_ends_the_episode_without_an_answer(
    run_policy: RunPolicy, chat: Chat, status: int, garbled: bool, error: str
) -> None:
    Orchestrator.status, Orchestrator.garbled = status, garbled
    trajectory, summary = run_policy(ContextPolicy.TRANSCRIPT)
    assert trajectory is not None and summary.failure is None, summary
    assert trajectory.answer is None and (summary.stop, summary.turns) == (Stop.LENGTH, 1)
    assert trajectory.tokens_T[trajectory.mask_T].tolist() == [chat.end_id]
    assert [(entry.kind, entry.error) for entry in trajectory.ledger] == [(POLICY, error)]
    assert summary.outcomes == {error: 1}


@pytest.mark.parametrize("status", [401, 404, 500])
def test_an_endpoint_that_fails_or_denies_us_ends_the_episode_as_a_failure(
    run_policy: RunPolicy, status: int
) -> None:
    Orchestrator.status = status
    trajectory, summary = run_policy(ContextPolicy.TRANSCRIPT)
    assert trajectory is None and summary.failure is not None
    assert (summary.failure.kind, summary.failure.where) == (FailureKind.ENGINE, NAME)


@pytest.mark.parametrize("in_content", [False, True])
def test_a_program_with_marks_in_a_string_is_run(
    run_policy: RunPolicy, sandbox_here: None, in_content: bool
) -> None:
    marks = "<think> </think> <tool_call> </tool_call> <|im_end|>"
    Orchestrator.code, Orchestrator.in_content = f"print('{marks}', 6 * 7)", in_content
    trajectory, summary = run_policy(ContextPolicy.TRANSCRIPT)
    assert trajectory is not None and summary.calls == {"python": 1}
    (result,) = [m["content"] for m in Orchestrator.seen[1]["messages"] if m["role"] == "tool"]
    assert f"{marks} 42" in result
