import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from orchestra_ray.catalogue import Catalogue
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.money import token_cost_nanousd
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.tasks.reasoning_gym import is_correct
from orchestra_ray.tasks.sampler import GroupSampler
from orchestra_ray.tools.executor import Executor, check_executors


def request(
    sampler: GroupSampler, name: str, arguments: Mapping[str, Any], n: int = 0, seed: int = 0
) -> ToolRequest:
    group = sampler.group(n, 1)
    return ToolRequest("call", 0, name, arguments, group.task, group.draw, seed, 0)


def with_calculator(sampler: GroupSampler) -> int:
    return next(n for n in range(50) if sampler.group(n, 1).draw.offer("calculator"))


def run(catalogue: Catalogue, asked: ToolRequest):
    return asyncio.run(Executor(catalogue).execute(asked))


def test_a_model_is_charged_at_the_draws_prices(
    catalogue: Catalogue, sampler: GroupSampler
) -> None:
    offer = sampler.group(0, 1).draw.offers[0]
    result = run(catalogue, request(sampler, "ask", {"model": offer.alias}))
    entry = result.entry
    assert result.error is None and entry.identity == offer.identity
    assert entry.charged_nanousd == token_cost_nanousd(
        entry.input_tokens, offer.input_nanousd_per_mtok
    ) + token_cost_nanousd(entry.output_tokens, offer.output_nanousd_per_mtok)
    assert 0.75 * offer.latency_s <= entry.service_s <= 1.25 * offer.latency_s


def test_the_same_call_has_the_same_outcome(catalogue: Catalogue, sampler: GroupSampler) -> None:
    alias = sampler.group(0, 1).draw.offers[0].alias
    asked = request(sampler, "ask", {"model": alias}, seed=5)
    assert run(catalogue, asked) == run(catalogue, asked)
    others = {run(catalogue, replace(asked, seed=s)).entry.service_s for s in range(5)}
    assert len(others) == 5


def test_experts_are_right_as_often_as_their_skill_says(
    catalogue: Catalogue, sampler: GroupSampler
) -> None:
    asked = [
        (group, offer.alias)
        for group in (sampler.group(n, 1) for n in range(400))
        for offer in group.draw.offers
        if offer.kind == "model"
    ]
    expected = right = 0.0
    for group, alias in asked:
        call = ToolRequest("c", 0, "ask", {"model": alias}, group.task, group.draw, 0, 0)
        right += is_correct(group.task, run(catalogue, call).text)
        expected += catalogue.models[alias].skill_at(group.task.family)
    assert abs(right - expected) / len(asked) < 0.03


def test_the_calculator_computes(catalogue: Catalogue, sampler: GroupSampler) -> None:
    n = with_calculator(sampler)
    assert run(catalogue, request(sampler, "calculator", {"expression": "6*7"}, n)).text == "42"


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("ask", {"model": "nobody"}, "unknown_model"),
        ("ask", {"model": "calculator"}, "unknown_model"),
        ("ask", {}, "missing_argument"),
        ("ask", {"model": 3}, "wrong_type"),
        ("ask", {"model": "nova", "effort": "high"}, "extra_argument"),
        ("rm", {"path": "/"}, "unknown_tool"),
        ("nova", {}, "unknown_tool"),
        ("calculator", {"expression": True}, "wrong_type"),
        ("calculator", {"expression": "import os"}, "bad_expression"),
    ],
)
def test_a_fault_of_the_call_names_itself_and_is_free(
    catalogue: Catalogue, sampler: GroupSampler, name: str, arguments: dict, error: str
) -> None:
    result = run(catalogue, request(sampler, name, arguments, with_calculator(sampler)))
    assert (result.error, result.entry.error, result.entry.charged_nanousd) == (error, error, 0)
    assert result.text.startswith("error: ")


def test_an_executor_that_does_not_exist_is_refused_at_the_start(catalogue: Catalogue) -> None:
    tool = replace(catalogue.tools["calculator"], executor="abacus")
    with pytest.raises(ConfigError, match="no executor abacus"):
        check_executors(replace(catalogue, tools={"calculator": tool}))
