"""A model behind vLLM's own OpenAI server, with tiny random weights."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import Caller, Task, ToolOption, ToolRequest
from orchestra_ray.sft.tokenizer import END_OF_TEXT, END_OF_TURN, train_tokenizer
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.endpoint.model import EndpointModel
from orchestra_ray.workers.tools.endpoint.settings import EndpointSettings

pytestmark = [pytest.mark.cpu, pytest.mark.slow]

START_S = 240.0
MANY_TOKENS = 7000  # many seconds of work, whatever the machine
DEADLINE_S = 2.0
CONTEXT_TOKENS = 8192
NEVER_ENDING = {"ignore_eos": True}
QUESTION = "What is 17 + 25? " * 12  # longer than a block of the prefix cache


@dataclass(frozen=True)
class VllmServer:
    root: str

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.root + path, timeout=5) as reply:
            return reply.read().decode()

    def metric(self, name: str) -> float:
        """The sum of one of the server's own counters."""
        found = re.findall(rf"^vllm:{name}{{.*}} (\S+)$", self.get("/metrics"), re.MULTILINE)
        assert found, name
        return sum(map(float, found))

    def prompt_tokens(self, messages: list[dict[str, str]]) -> int:
        body = json.dumps({"model": "tiny", "messages": messages}).encode()
        headers = {"Content-Type": "application/json"}
        call = urllib.request.Request(self.root + "/tokenize", body, headers)
        with urllib.request.urlopen(call, timeout=5) as reply:
            return json.load(reply)["count"]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = train_tokenizer([QUESTION, "Add. 2 + 2? count 7 + 8 = hello"], vocab_size=300)
    tokenizer.save_pretrained(folder)
    ids = tokenizer.get_vocab()
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        initializer_range=0.2,  # far from uniform, so that greedy tokens are clear
        bos_token_id=None,
        eos_token_id=ids[END_OF_TURN],
        pad_token_id=ids[END_OF_TEXT],
    )
    Qwen3ForCausalLM(config).float().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = f"--model {model_folder} --host 127.0.0.1 --port {port}"
    flags += " --served-model-name tiny --dtype float32"
    flags += f" --max-model-len {CONTEXT_TOKENS} --max-num-batched-tokens {CONTEXT_TOKENS}"
    flags += " --max-num-seqs 8"
    # Two processes that wait for each other by sched_yield keep a third from waking for seconds.
    flags += " --distributed-executor-backend vllm.v1.executor.uniproc_executor.UniProcExecutor"
    flags += " --enforce-eager --no-enable-chunked-prefill --enable-prompt-tokens-details"
    environment = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "TORCHDYNAMO_DISABLE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    # `vllm serve` asks for the version of a package that vllm-cpu is not called.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    log = tmp_path_factory.mktemp("vllm") / "log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            [*command, *flags.split()],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield wait_until_ready(VllmServer(f"http://127.0.0.1:{port}"), process, log)
        finally:
            signal_group(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=20)
            finally:
                signal_group(process.pid, signal.SIGKILL)


def wait_until_ready(server: VllmServer, process: subprocess.Popen, log: Path) -> VllmServer:
    ends_at = time.monotonic() + START_S
    while time.monotonic() < ends_at and process.poll() is None:
        try:
            server.get("/health")
            return server
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.25)
    raise AssertionError(f"vLLM's server did not start:\n{log.read_text()[-4000:]}")


def signal_group(leader: int, what: signal.Signals) -> None:
    try:
        os.killpg(leader, what)
    except ProcessLookupError:
        pass


def settings(server: VllmServer, **changes: Any) -> EndpointSettings:
    given: dict[str, Any] = {"max_output_tokens": 24, "context_tokens": 1024}
    given |= {"temperature": 0.0, "system": "Add.", "extra_body": NEVER_ENDING}
    return EndpointSettings((f"{server.root}/v1",), "tiny", **(given | changes))


async def ask(model: EndpointModel, question: str = QUESTION) -> Reply:
    caller = Caller(step=0, group_id="g", episode_id="e", turn=0)
    option = ToolOption("nova", "tiny", "model", "", Prices(), latency_s=1.0)
    task = Task("t", "sums", question, {})
    return await model.call(ToolRequest("call", caller, option, {}, task, seed=0, attempt=0))


def replies(asked: EndpointSettings, *questions: str) -> list[Reply]:
    async def all_of_them() -> list[Reply]:
        model = EndpointModel(asked)
        answers = [await ask(model, question) for question in questions]
        await model.close()
        return answers

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("streamed", [False, True])
def test_usage_is_what_the_server_counts(server: VllmServer, streamed: bool) -> None:
    prompts = server.metric("prompt_tokens_total")
    generated = server.metric("generation_tokens_total")
    reply, again = replies(settings(server, stream=streamed), QUESTION, QUESTION)
    messages = [{"role": "system", "content": "Add."}, {"role": "user", "content": QUESTION}]
    assert reply.text.endswith("[cut at 24 tokens]") and reply.text == again.text
    assert reply.usage.input_tokens == again.usage.input_tokens == server.prompt_tokens(messages)
    assert reply.usage.output_tokens == again.usage.output_tokens == 24
    assert 0 < again.usage.cached_tokens < again.usage.input_tokens
    assert server.metric("prompt_tokens_total") - prompts == 2 * reply.usage.input_tokens
    assert server.metric("generation_tokens_total") - generated == 48


def test_streamed_or_not_the_answer_is_the_same(server: VllmServer) -> None:
    (whole,) = replies(settings(server), "2 + 2?")
    (streamed,) = replies(settings(server, stream=True), "2 + 2?")
    assert whole.text == streamed.text


@pytest.mark.parametrize("streamed", [False, True])
def test_a_deadline_frees_the_server(server: VllmServer, streamed: bool) -> None:
    many = settings(
        server,
        max_output_tokens=MANY_TOKENS,
        context_tokens=2 * MANY_TOKENS,
        stream=streamed,
        deadline_s=DEADLINE_S,
    )
    replies(settings(server, stream=streamed), "count")  # makes what is made on first use
    generated = server.metric("generation_tokens_total")

    with pytest.raises(Fault) as caught:
        replies(many, "count")
    assert caught.value.kind is FaultKind.TIMEOUT
    ends_at = time.monotonic() + START_S
    while server.metric("num_requests_running"):
        assert time.monotonic() < ends_at, "the server still has the request"
    assert 0 < server.metric("generation_tokens_total") - generated < MANY_TOKENS
    assert replies(settings(server), "2 + 2?")[0].text


def test_a_model_that_is_not_served_is_rejected(server: VllmServer) -> None:
    asked = EndpointSettings((f"{server.root}/v1",), "huge", max_output_tokens=8)
    with pytest.raises(Fault) as caught:
        replies(asked, "hello")
    assert caught.value.kind is FaultKind.DENIED and "404" in str(caught.value)
    assert "huge" in str(caught.value)


def test_a_question_beyond_the_context_is_rejected_and_one_that_is_cut_is_not(
    server: VllmServer,
) -> None:
    long = "7 + 8 = " * 20_000
    with pytest.raises(Fault) as caught:
        replies(settings(server, context_tokens=100_000), long)
    assert caught.value.kind is FaultKind.REJECTED and "400" in str(caught.value)
    assert replies(settings(server, context_tokens=800), long)[0].usage.input_tokens < 1000
