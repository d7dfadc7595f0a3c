"""The forecast of a run's spend: cases, counts, and the limits of the budget."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.config import Config
from orchestra_ray.config.schema import SpendConfig
from orchestra_ray.core.records import Caller, ToolRequest, ToolsetSample
from orchestra_ray.core.seeds import derive_seed
from orchestra_ray.data.catalogue import Catalogue, load_catalogue, sample_toolset
from orchestra_ray.data.preferences.load import load_preferences
from orchestra_ray.data.tasks.reasoning_gym import TaskSource
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.spend.budget import most_cost_nanousd
from orchestra_ray.spend.forecast import POLICY, Case, Forecast, forecast, items_of, total
from orchestra_ray.spend.local import LocalSpendClient
from orchestra_ray.workers.tools.registry import make_tools
from orchestra_ray.workers.tools.runtime.executor import Executor

QUESTION_TOKENS = 20


@pytest.fixture(scope="module")
def small(quickstart: Config) -> Config:
    """Four steps of two groups of four episodes; six tasks for two policies and two routers."""
    training = replace(quickstart.training, steps=4, groups_per_step=2, group_size=4)
    evaluation = replace(quickstart.evaluation, tasks=6, baselines=["random", "cheapest"])
    return replace(quickstart, training=training, evaluation=evaluation)


@pytest.fixture(scope="module")
def paper() -> Catalogue:
    return load_catalogue("configs/catalogues/paper.yaml")


@pytest.fixture(scope="module")
def predict(small: Config, catalogue: Catalogue) -> Callable[..., Forecast]:
    def made(
        training: bool = True, calls: float | None = None, config: Config = small, **spend: Any
    ) -> Forecast:
        limited = replace(config, spend=SpendConfig(**spend))
        return forecast(limited, catalogue, QUESTION_TOKENS, training, calls)

    return made


def usd(found: Forecast, case: Case) -> float:
    """The spend that the budget bounds."""
    calls = {name: amount for name, amount in found.by_case[case].items() if name != POLICY}
    return total(calls).nanousd / 1e9


def test_episodes_are_those_of_the_configuration(predict: Callable[..., Forecast]) -> None:
    trained, measured = predict(), predict(training=False)
    assert (trained.trained_episodes, trained.measured_episodes) == (32, 24)
    assert (measured.trained_episodes, measured.measured_episodes) == (0, 18)


def test_calls_are_those_of_the_case(predict: Callable[..., Forecast], small: Config) -> None:
    found = predict(calls=2.5)
    own, routed, turns = 32 + 12, 12, small.rollout.max_turns
    calls = {case: total(found.by_case[case]).calls for case in Case}
    assert calls == pytest.approx(
        {
            Case.LOW: own + routed,
            Case.EXPECTED: 2.5 * own + routed,
            Case.HIGH: turns * own + routed,
            Case.WORST: turns * own + routed,
        }
    )


def test_without_a_figure_the_expected_calls_lie_between_one_and_the_turns(
    predict: Callable[..., Forecast], small: Config
) -> None:
    assert predict().calls ** 2 == pytest.approx(small.rollout.max_turns)


def test_the_usual_cost_is_the_mean_over_the_draws_of_the_run(
    predict: Callable[..., Forecast], small: Config, catalogue: Catalogue
) -> None:
    """By hand, for an evaluation: the policy and two routers run each task."""
    expected = 0.0
    for n in range(6):
        seed = derive_seed(small.evaluation.seed, "group", n)
        toolset = sample_toolset(catalogue, small.catalogue, seed)
        items = items_of(toolset, catalogue, QUESTION_TOKENS)
        models = [item for item in items if item.is_model]
        expected += sum(item.usual.nanousd for item in items) / len(items)
        expected += 2 * sum(item.usual.nanousd for item in models) / len(models)
    assert usd(predict(training=False), Case.LOW) == pytest.approx(expected / 1e9)


limits = st.fixed_dictionaries(
    {},
    optional={
        "call_usd": st.sampled_from([0.001, 0.02, 1.0]),
        "episode_usd": st.sampled_from([0.001, 0.05, 1.0]),
        "step_usd": st.sampled_from([0.01, 0.3, 5.0]),
        "run_usd": st.sampled_from([0.02, 1.0, 50.0]),
        "episode_calls": st.integers(1, 6),
        "step_calls": st.integers(1, 40),
        "run_calls": st.integers(1, 300),
    },
)


@given(spend=limits)
def test_no_case_passes_a_limit_and_money_limits_keep_the_order_of_the_cases(
    predict: Callable[..., Forecast], spend: dict[str, Any]
) -> None:
    found = predict(**spend)
    dollars = [usd(found, case) for case in Case]
    slack = 1 + 1e-9
    if not {"step_calls", "run_calls"} & spend.keys():  # these cut the routers' calls too
        assert all(less <= more * slack for less, more in zip(dollars, dollars[1:], strict=False))
    for case in Case:
        assert usd(found, case) <= spend.get("run_usd", 1e9) * slack
        assert total(found.by_case[case]).calls <= spend.get("run_calls", 10**9) * slack
        assert total(found.by_case[case]).calls <= 56 * spend.get("episode_calls", 10**9) * slack


def test_what_may_cost_more_than_a_limit_is_never_called(
    predict: Callable[..., Forecast], catalogue: Catalogue
) -> None:
    found = predict(call_usd=0.02)
    assert "nova" in found.refused and found.refused["nova"] > 20_000_000
    assert "pebble" not in found.refused
    assert usd(found, Case.WORST) < usd(predict(), Case.WORST)


def test_limits_tell_what_would_be_without_them(predict: Callable[..., Forecast]) -> None:
    (run,) = predict(run_usd=1e-3).limits
    assert run.key == "spend.run_usd" and run.limit == 1e-3
    free = predict()
    for case in (Case.LOW, Case.EXPECTED):
        assert run.unlimited[case] <= usd(free, case)
    (episode,) = predict(episode_calls=1).limits
    assert episode.unlimited[Case.HIGH] == 4.0


def test_the_policy_s_own_tokens_cost_what_the_configuration_says(
    predict: Callable[..., Forecast], small: Config
) -> None:
    priced = predict().by_case[Case.EXPECTED][POLICY]
    model = replace(small.model, input_usd_per_mtok=0.0, output_usd_per_mtok=1.0)
    only_output = predict(config=replace(small, model=model)).by_case[Case.EXPECTED][POLICY]
    assert priced.nanousd / 1e9 == pytest.approx(
        (priced.input_tokens + priced.output_tokens) * 0.2 / 1e6, rel=1e-3
    )
    assert only_output.nanousd / 1e9 == pytest.approx(only_output.output_tokens / 1e6, rel=1e-3)
    assert predict(run_calls=1).by_case[Case.EXPECTED][POLICY] == priced


def test_the_policy_never_reads_or_says_more_than_its_limits_allow(
    predict: Callable[..., Forecast], small: Config
) -> None:
    for turns, prompt, response in ((1, 64, 8), (50, 700, 64), (50, 24_000, 8_000)):
        rollout = replace(
            small.rollout,
            max_turns=turns,
            max_prompt_tokens=prompt,
            max_response_tokens=response,
        )
        found = predict(config=replace(small, rollout=rollout))
        own = [found.by_case[case][POLICY] for case in Case]
        assert own[0].input_tokens <= own[1].input_tokens <= own[2].input_tokens
        assert own[0].output_tokens <= own[1].output_tokens <= own[2].output_tokens
        assert own[3].input_tokens <= 44 * turns * prompt
        assert own[3].output_tokens <= 44 * (prompt + response)


def test_a_recipe_costs_the_model_that_it_is_done_by(paper: Catalogue, small: Config) -> None:
    config = replace(small.catalogue, models_min=20, models_max=20, aliases=True)
    toolset: ToolsetSample = sample_toolset(paper, config, 3)
    items = items_of(toolset, paper, QUESTION_TOKENS)
    code = next(option for option in toolset.options if option.identity == "code")
    of_code = [item for item in items if item.share == 1 / len(code.choices)]
    assert {item.name for item in of_code} >= {choice.identity for choice in code.choices}
    most = max(most_cost_nanousd(paper.entries["code"], choice.prices) for choice in code.choices)
    assert max(item.most.nanousd for item in of_code) == most
    assert sum(item.share for item in items) == pytest.approx(len(toolset.options))


def test_a_run_too_long_to_draw_is_predicted_from_its_first_draws(
    predict: Callable[..., Forecast], small: Config
) -> None:
    long = replace(small, training=replace(small.training, steps=2_000))
    short = replace(small, training=replace(small.training, steps=256))
    assert predict(config=long).sampled_toolsets and not predict(config=short).sampled_toolsets
    trained_only = [
        replace(config, evaluation=replace(config.evaluation, tasks=0)) for config in (long, short)
    ]
    whole, part = (usd(predict(config=config), Case.LOW) for config in trained_only)
    assert whole == pytest.approx(part * 2_000 / 256)


def test_the_executor_charges_about_what_is_usual_and_never_more_than_the_most(
    small: Config, catalogue: Catalogue
) -> None:
    """Calls every item of the toolset samples of 300 tasks once, through an executor."""
    heldout = GroupSampler(
        TaskSource.heldout(small.tasks),
        catalogue,
        small.catalogue,
        load_preferences(small.catalogue),
        small.evaluation.seed,
    )
    groups = [heldout.group(n, 1) for n in range(300)]
    spend = LocalSpendClient()

    async def play() -> None:
        executor = Executor(catalogue, make_tools(catalogue), spend)
        for group in groups:
            for option in group.toolset.options:
                caller = Caller(0, group.group_id, group.episodes[0].episode_id, 0)
                call_id = f"{group.group_id}/{option.identity}"
                given = {} if option.kind == "model" else {"expression": "1 + 1"}
                await executor.execute(
                    ToolRequest(
                        call_id, caller, option, given, group.task, group.episodes[0].seed, 0
                    )
                )
        await executor.close()

    asyncio.run(play())
    items = [items_of(group.toolset, catalogue, QUESTION_TOKENS) for group in groups]
    ordered = [item for of_draw in items for item in of_draw]
    charged = [entry.charged_nanousd for entry in spend.entries]
    for paid, item in zip(charged, ordered, strict=True):
        assert paid <= item.most.nanousd
    assert sum(charged) == pytest.approx(sum(item.usual.nanousd for item in ordered), rel=0.05)
