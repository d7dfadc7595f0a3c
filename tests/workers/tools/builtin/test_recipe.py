"""Recipes against a real model endpoint, a real index and the real sandbox."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.config.schema import CatalogueConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.money import Usage
from orchestra_ray.core.records import Caller, Task, ToolRequest, ToolResult, ToolsetSample
from orchestra_ray.data.catalogue import Catalogue, load_catalogue, sample_toolset
from orchestra_ray.data.catalogue.parsers import INSTRUCTIONS, Parser
from orchestra_ray.spend.budget import most_cost_nanousd
from orchestra_ray.workers.tools.builtin.recipe import NOTHING, QUERY_CHARACTERS, part_of
from orchestra_ray.workers.tools.registry import available, check_backends, make_tools
from orchestra_ray.workers.tools.runtime.executor import Executor
from orchestra_ray.workers.tools.validation import resolve

SHIPPED = Path(__file__).parents[4] / "configs/catalogues"
QUESTION = "Which river runs through Bremen?"
FILE = """
models:
  - name: writer
    description: writes
    backend: endpoint
    prices: {{input_usd_per_mtok: 1, output_usd_per_mtok: 10}}
    latency_s: 1
    parser: boxed
    limits: {{retries: 0, deadline_s: 20, context_tokens: 4096, max_output_tokens: 64}}
    settings: {{base_urls: ["{url}"], model: writer, extra_body: {{script: {script}}}}}
tools:
  - name: look_up
    description: looks it up
    backend: recipe
    runs: passages
    parser: query_tag
    limits: &limits {{retries: 0, deadline_s: 30, context_tokens: 4096, max_output_tokens: 64}}
    choices: &choices [{{name: by-1, model: writer, description: writes, latency_s: 2}}]
  - name: compute
    description: computes it
    backend: recipe
    runs: sandbox
    parser: code
    limits: {{<<: *limits, max_service_s: 20}}
    choices: *choices
  - name: answer
    description: answers
    backend: recipe
    terminal: true
    limits: *limits
    choices: *choices
  - name: passages
    description: searches
    backend: search
    offered: false
    prices: {{search_usd: 0.002}}
    limits: {{retries: 0}}
    parameters: {{type: object, properties: {{query: {{type: string}}}}, required: [query]}}
    settings: {{corpus: {folder}/corpus, cache_dir: {folder}/cache, top_k: 1}}
  - name: sandbox
    description: runs Python
    backend: python
    offered: false
    prices: {{second_usd: 0.5}}
    limits: {{retries: 0, max_service_s: 20}}
    parameters: {{type: object, properties: {{code: {{type: string}}}}, required: [code]}}
    settings: {{wall_s: 10, cpu_s: 10}}
"""


def said(text: str) -> str:
    """A script of the server: it says this, and that it cost 100 tokens in and 20 out."""
    told = {"prompt_tokens": 100, "completion_tokens": 20}
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": told}
    json_type = {"Content-Type": "application/json"}
    return json.dumps({"status": 200, "headers": json_type, "parts": [json.dumps(body)]})


class Kitchen:
    """A catalogue whose one model says a text, and what comes of a call of one of its tools."""

    def __init__(self, server: Any, folder: Path, spend: Any):
        self.server, self.folder, self.spend = server, folder, spend
        corpus = folder / "corpus"
        corpus.mkdir()
        (corpus / "bremen.txt").write_text("The Weser runs through Bremen.")
        (corpus / "cats.txt").write_text("Cats purr.")

    def catalogue(self, script: str, old: str = "", new: str = "") -> Catalogue:
        assert old in FILE
        text = FILE.replace(old, new) if old else FILE
        path = self.folder / "catalogue.yaml"
        path.write_text(text.format(url=self.server.url, script=script, folder=self.folder))
        catalogue = load_catalogue(path)
        check_backends(catalogue)
        return catalogue

    def call(self, script: str, tool: str, found: tuple[str, ...] = ()) -> ToolResult:
        catalogue = self.catalogue(script)
        toolset = sample_toolset(catalogue, catalogue_config(), seed=1)
        name = next(o.choices[0].alias for o in toolset.options if o.alias == tool)
        option = resolve(toolset, tool, {"model": name})
        task = Task("t", "rivers", QUESTION, {})
        caller = Caller(1, "g", "g/0", 0)
        request = ToolRequest(f"{tool}/{script}", caller, option, {}, task, 0, 0, found)

        async def main() -> ToolResult:
            executor = Executor(catalogue, make_tools(catalogue), self.spend)
            try:
                return await executor.execute(request)
            finally:
                await executor.close()

        self.server.seen()
        return asyncio.run(main())

    def prompt(self) -> str:
        """What the model was asked last."""
        return self.server.seen()["bodies"][-1]["messages"][-1]["content"]


def catalogue_config() -> CatalogueConfig:
    return CatalogueConfig(
        path="none", models_min=9, models_max=9, price_factors=[1.0], latency_factors=[1.0]
    )


@pytest.fixture
def kitchen(bad_server: Any, tmp_path: Path, local_spend: Callable[..., Any]) -> Kitchen:
    return Kitchen(bad_server, tmp_path, local_spend())


TOKENS_NANOUSD = 100 * 1_000 + 20 * 10_000


def test_a_query_that_a_model_writes_is_searched_for_and_both_are_charged(
    kitchen: Kitchen,
) -> None:
    result = kitchen.call(said("<query>Weser Bremen river</query>"), "look_up", ("a map",))
    assert "The Weser runs through Bremen." in result.text and result.error is None
    prompt = kitchen.prompt()
    assert prompt.startswith("What was found so far:\n\na map\n\nProblem:\n\nWhich river")
    assert prompt.endswith(INSTRUCTIONS[Parser.QUERY_TAG])
    assert INSTRUCTIONS[Parser.BOXED] not in prompt
    entry = result.entry
    assert (entry.identity, entry.alias, entry.model) == ("look_up", "look_up-1", "writer")
    usage = entry.usage
    assert (usage.input_tokens, usage.output_tokens, usage.searches) == (100, 20, 1)
    assert entry.charged_nanousd == TOKENS_NANOUSD + 2_000_000
    assert kitchen.spend.budget.committed_nanousd == entry.charged_nanousd


def test_a_program_that_a_model_writes_is_run_and_its_seconds_alone_are_billed(
    kitchen: Kitchen, sandbox_here: None
) -> None:
    result = kitchen.call(said("So:\n```python\nprint(6 * 7)\n```\n"), "compute")
    assert result.text == "42"
    usage = result.entry.usage
    assert usage.billed_s is not None and 0 < usage.billed_s < result.entry.service_s
    seconds_nanousd = result.entry.charged_nanousd - TOKENS_NANOUSD
    assert seconds_nanousd == pytest.approx(usage.billed_s * 5 * 10**8, abs=1)


def test_an_answer_is_read_by_the_models_own_parser(kitchen: Kitchen) -> None:
    result = kitchen.call(said("It is \\\\boxed{the Weser}."), "answer", ("[1] Bremen",))
    assert result.text == "the Weser"
    prompt = kitchen.prompt()
    assert "[1] Bremen" in prompt and prompt.endswith(INSTRUCTIONS[Parser.BOXED])
    assert result.entry.charged_nanousd == TOKENS_NANOUSD


def test_a_model_that_writes_nothing_to_run_is_paid_and_said_so(kitchen: Kitchen) -> None:
    result = kitchen.call(said("I would rather not."), "compute")
    assert (result.text, result.error) == (NOTHING, None)
    assert result.entry.charged_nanousd == TOKENS_NANOUSD


def test_a_part_that_fails_is_one_fault_and_the_model_is_paid(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(kitchen.folder))  # without bubblewrap
    result = kitchen.call(said("```python\nprint(1)\n```"), "compute")
    assert result.error == FaultKind.UNAVAILABLE.value
    assert result.entry.charged_nanousd == TOKENS_NANOUSD


def test_a_model_that_fails_is_one_fault_and_nothing_is_run(kitchen: Kitchen) -> None:
    result = kitchen.call('{"status": 500, "parts": ["no"]}', "look_up")
    assert result.error == FaultKind.SERVER_ERROR.value
    assert result.entry.charged_nanousd == 0 and result.entry.usage == Usage()


@pytest.mark.parametrize(
    ("parser", "text", "part"),
    [
        (Parser.QUERY_TAG, "<query>the longest river</query>", "the longest river"),
        (Parser.QUERY_TAG, "<query>ab</query>", QUESTION),
        (Parser.QUERY_TAG, "no idea", QUESTION),
        (Parser.CODE, "```python\nprint(1)\n```", "print(1)"),
        (Parser.CODE, "print(1)", None),
        (Parser.TEXT, "as it is", "as it is"),
    ],
)
def test_what_is_run_is_read_by_the_recipes_parser(
    parser: Parser, text: str, part: str | None
) -> None:
    assert part_of(parser, text, QUESTION) == part


@given(st.text(), st.text(min_size=QUERY_CHARACTERS[0]))
def test_a_query_is_never_longer_than_what_search_takes(query: str, question: str) -> None:
    part = part_of(Parser.QUERY_TAG, f"<query>{query}</query>", question)
    assert part is not None and len(part) <= QUERY_CHARACTERS[1]


def shipped(name: str) -> Catalogue:
    return load_catalogue(SHIPPED / f"{name}.yaml")


CATALOGUES = sorted(p.stem for p in SHIPPED.glob("*.yaml") if not p.stem.startswith("prices_"))


def toolsets_of(catalogue: Catalogue) -> list[ToolsetSample]:
    config = CatalogueConfig(path="none")
    return [sample_toolset(catalogue, config, seed) for seed in range(30)]


@pytest.mark.parametrize("name", CATALOGUES)
def test_shipped_catalogues_can_be_executed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAVILY_API_KEY", "tvly-none")
    catalogue = shipped(name)
    check_backends(catalogue)
    offered, _ = available(catalogue)
    check_backends(offered)
    assert offered.models == catalogue.models


@pytest.mark.parametrize("name", CATALOGUES)
def test_the_models_and_recipes_of_shipped_catalogues_start_with_keys(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = shipped(name)
    for entry in catalogue.models.values():
        if key := entry.settings.get("api_key_env"):
            monkeypatch.setenv(key, "none")
    started = {
        name: replace(entry, backend="calculator", settings={})
        if entry.backend in ("search", "python", "web_search")
        else entry
        for name, entry in catalogue.entries.items()
    }

    async def main() -> Mapping[str, Any]:
        tools = make_tools(replace(catalogue, entries=started))
        for tool in tools.values():
            await tool.close()
        return tools

    assert asyncio.run(main()).keys() == catalogue.entries.keys()


@pytest.mark.parametrize("name", CATALOGUES)
def test_no_call_of_a_recipe_can_cost_more_than_is_reserved(name: str) -> None:
    catalogue = shipped(name)
    for toolset in toolsets_of(catalogue):
        for option in toolset.options:
            for choice in option.choices:
                by_model = resolve(toolset, option.alias, {"model": choice.alias})
                entry, model = (
                    catalogue.entries[option.identity],
                    catalogue.entries[choice.identity],
                )
                runs = catalogue.entries.get(entry.runs or "")
                most = Usage(
                    input_tokens=model.limits.context_tokens,
                    output_tokens=model.limits.max_output_tokens,
                    searches=runs.limits.max_searches if runs else 0,
                    billed_s=runs.limits.max_service_s if runs else 0.0,
                )
                cost_nanousd = by_model.prices.cost_nanousd(most)
                assert most_cost_nanousd(entry, by_model.prices) >= cost_nanousd


def test_a_choice_that_is_not_there_is_a_fault_that_names_those_that_are() -> None:
    toolset = toolsets_of(shipped("orchestrator8b"))[0]
    option = next(option for option in toolset.options if option.choices)
    with pytest.raises(
        Fault, match=f"there is no model gpt-5; .*{option.choices[0].alias}"
    ) as caught:
        resolve(toolset, option.alias, {"model": "gpt-5"})
    assert caught.value.kind is FaultKind.UNKNOWN_TOOL
    for arguments, kind in (({}, "missing_argument"), ({"model": 1}, "wrong_type")):
        with pytest.raises(Fault) as caught:
            resolve(toolset, option.alias, arguments)
        assert caught.value.kind.value == kind


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "backend: recipe\n    runs: passages",
            "backend: search\n    runs: passages",
            "write backend: recipe",
        ),
        ("max_service_s: 20}}\n    choices", "max_service_s: 2}}\n    choices", "is below 20"),
        ("required: [query]", "required: []", "does not have exactly one required argument"),
        (
            "    choices: *choices\n  - name: passages",
            "  - name: passages",
            "name models to choose",
        ),
    ],
)
def test_a_recipe_that_cannot_be_done_is_named(
    kitchen: Kitchen, old: str, new: str, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        kitchen.catalogue(said("x"), old, new)
