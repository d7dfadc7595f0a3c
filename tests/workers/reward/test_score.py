"""From trajectories with their ledgers to the score of a group."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.config.learning import RewardConfig
from orchestra_ray.core.faults import DropReason
from orchestra_ray.core.money import Prices, Usage, nanousd
from orchestra_ray.core.records import (
    Caller,
    EpisodeSpec,
    GroupSpec,
    LedgerEntry,
    Preference,
    Task,
    ToolOption,
    ToolsetSample,
    Trajectory,
    Turn,
)
from orchestra_ray.core.states import Stop
from orchestra_ray.workers.reward.advantage import ESTIMATORS
from orchestra_ray.workers.reward.columns import RewardPart, amounts, columns
from orchestra_ray.workers.reward.combinations import COMBINATIONS
from orchestra_ray.workers.reward.score import score_group
from orchestra_ray.workers.reward.settings import RewardSettings, Weights

TASK = Task("t/1", "t", "What is 6 times 7?", {"answer": "42"})


def option(
    identity: str, kind: str = "tool", alias: str | None = None, **more: object
) -> ToolOption:
    return ToolOption(alias or identity, identity, kind, "", Prices(), 1.0, **more)  # type: ignore[arg-type]


SEARCH = option(
    "search",
    choices=(option("gpt-5", "model", "search-1"), option("qwen3-32b", "model", "search-2")),
)
ANSWER = option("answer", choices=(option("qwen2.5-math-7b", "model", "answer-1"),), terminal=True)
QWEN = option("qwen3-32b", "model", "model-1")
PYTHON = option("python")
DRAW = ToolsetSample(0, (QWEN, SEARCH, ANSWER, PYTHON))
FRUGAL = Preference("frugal", "", outcome=1.0, cost=1.0, latency=0.0)


def call(
    alias: str, turn: int = 0, dollars: float = 0.0, seconds: float = 0.0, **more: object
) -> LedgerEntry:
    """A call of the toolset under the alias that the policy used."""
    found = {QWEN.alias: (QWEN, "qwen3-32b"), PYTHON.alias: (PYTHON, "")}
    for recipe in (SEARCH, ANSWER):
        found |= {choice.alias: (recipe, choice.identity) for choice in recipe.choices}
    whose, model = found[alias]
    entry = LedgerEntry(
        call_id=f"e/{turn}/{alias}",
        caller=Caller(1, "g", "e", turn),
        identity=whose.identity,
        alias=alias,
        kind=whose.kind,
        price_sheet="",
        usage=Usage(),
        charged_nanousd=nanousd(dollars),
        service_s=seconds,
        model=model,
    )
    return replace(entry, **more)  # type: ignore[arg-type]


def own(turn: int = 0, dollars: float = 0.0, seconds: float = 0.0) -> LedgerEntry:
    """The policy's tokens of a turn."""
    entry = call("python", turn, dollars, seconds)
    return replace(entry, identity="policy", alias="policy", kind="policy", model="policy")


def trajectory(ledger: Sequence[LedgerEntry], right: bool = True, turns: int = 1) -> Trajectory:
    return Trajectory(
        episode_id="e",
        tokens_T=np.arange(turns, dtype=np.int32),
        mask_T=np.ones(turns, dtype=bool),
        logprobs_T=np.zeros(turns, dtype=np.float32),
        versions_T=np.zeros(turns, dtype=np.int32),
        turns=tuple(Turn(t, t + 1, True) for t in range(turns)),
        ledger=tuple(ledger),
        answer="42" if right else "41",
        stop=Stop.ANSWERED,
    )


def group(preference: Preference = FRUGAL, draw: ToolsetSample = DRAW) -> GroupSpec:
    return GroupSpec("g", 1, TASK, draw, preference, (EpisodeSpec("e", 1),))


def is_right(task: Task, answer: str | None) -> bool:
    return answer == task.payload["answer"]


def rewards(
    trajectories: Sequence[Trajectory],
    preference: Preference = FRUGAL,
    settings: RewardSettings = RewardSettings(),  # noqa: B008
) -> list[float]:
    score = score_group(group(preference), trajectories, is_right, settings)
    return [episode.reward for episode in score.episodes]


def liking(tools: Mapping[str, float]) -> Preference:
    return Preference("", "", 0.0, 0.0, 0.0, tools)


SPECS_GROUP = [
    trajectory([call("search-1", dollars=0.01)]),
    trajectory([call("search-1", 0, dollars=0.02), call("search-1", 1, dollars=0.03)], turns=2),
    trajectory([own(dollars=0.09)]),
    trajectory([call("search-1", dollars=0.05)], right=False),
]


@pytest.mark.parametrize(
    ("name", "preference", "expected"),
    [
        ("paper", FRUGAL, [2.0, 1.5, 1.0, 0.0]),
        ("released", FRUGAL, [3.375, 3.875, 4.375, 0.0]),
        ("paper", liking({"search": 1.0}), [0.5, 1.0, 0.0, 0.0]),
        ("released", liking({"search-1": 1.0}), [0.0, 1.0, -1.0, 0.0]),
        ("paper", Preference("", "", 1, 0, 0), [1.0, 1.0, 1.0, 0.0]),
        ("released", Preference("", "", 1, 0, 0), [1.0, 1.0, 1.0, 0.0]),
    ],
)
def test_three_right_and_one_wrong_as_the_paper_and_as_the_released_code_score_them(
    name: str, preference: Preference, expected: list[float]
) -> None:
    settings = RewardSettings.of(RewardConfig(preset=name, budget_usd=1.0))
    np.testing.assert_allclose(rewards(SPECS_GROUP, preference, settings), expected)


def test_advantages_of_the_paper_are_the_standardised_rewards() -> None:
    score = score_group(group(), SPECS_GROUP, is_right, RewardSettings())
    expected = (np.array([2, 1.5, 1, 0]) - 1.125) / np.std([2, 1.5, 1, 0], ddof=1)
    np.testing.assert_allclose([e.advantage for e in score.episodes], expected)
    assert score.keep and score.reason is None
    assert [e.correct for e in score.episodes] == [True, True, True, False]
    assert not any(e.turn_advantages for e in score.episodes)


def test_a_models_calls_count_whether_it_is_asked_or_behind_a_recipe() -> None:
    asked, behind, other = (trajectory([call(a)]) for a in ("model-1", "search-2", "search-1"))
    both = trajectory([call("model-1"), call("search-2")])
    by_model = liking({"model:qwen3-32b": 1.0})
    assert rewards([asked, behind, other, both], by_model) == [0.5, 0.5, 0.0, 1.0]
    under_its_name = liking({"qwen3-32b": 1.0})
    assert rewards([asked, behind, other, both], under_its_name) == [1.0, 0.0, 0.0, 1.0]


def test_a_family_is_all_models_whose_names_begin_with_it() -> None:
    trajectories = [trajectory([call(a)]) for a in ("model-1", "search-2", "answer-1", "search-1")]
    assert rewards(trajectories, liking({"family:qwen": 1.0})) == [1.0, 1.0, 1.0, 0.0]
    assert rewards(trajectories, liking({"family:gpt": 1.0})) == [0.0, 0.0, 0.0, 1.0]
    assert rewards(trajectories, liking({"family:q": 1.0})) == [0.0] * 4
    owned = trajectory([call("model-1", model="Qwen/Qwen3-8B")])
    assert rewards([owned, trajectories[3]], liking({"family:qwen": 1.0})) == [1.0, 0.0]


def test_every_offer_has_a_column_and_families_only_where_they_are_named() -> None:
    named = Weights(tools={"family:qwen": 0.5, "python": 1.0, "not in this draw": 1.0})
    keys = [(column.key, column.weight) for column in columns(DRAW, named)]
    assert keys[:4] == [("qwen3-32b", 0.0), ("search", 0.0), ("answer", 0.0), ("python", 1.0)]
    assert keys[4:] == [("family:qwen", 0.5), ("outcome", 1.0), ("usd", 0.0), ("seconds", 0.0)]


LEDGER = [
    own(0, dollars=0.01, seconds=1),
    call("python", 0, dollars=0.02, seconds=2),
    call("search-1", 0, dollars=0.04, seconds=4),
    own(1, dollars=0.08, seconds=8),
    call("search-1", 1, dollars=0.16, seconds=16, charged_nanousd=0, saved_nanousd=nanousd(0.16)),
    own(2, dollars=0.32, seconds=32),
    call("answer-1", 2, dollars=0.64, seconds=64),
]


def test_every_call_is_counted_and_charged_where_it_was_asked_for() -> None:
    found = amounts(DRAW, columns(DRAW, Weights()), trajectory(LEDGER, turns=3))
    assert found.row(True) == [0, 2, 1, 1, 1, pytest.approx(1.27), 127]
    np.testing.assert_allclose(found.spent_T_2, [[0.07, 7], [0.24, 24], [0.96, 96]])


def test_the_released_amounts_leave_out_what_the_code_left_out() -> None:
    """Of a turn only the first call, nothing of the answer's, and no time of the policy's own."""
    columns_K = columns(DRAW, Weights(), released=True)
    assert [c.key for c in columns_K[:5]] == [
        "model-1",
        "search-1",
        "search-2",
        "answer-1",
        "python",
    ]
    found = amounts(DRAW, columns_K, trajectory(LEDGER, turns=3), released=True)
    assert found.row(True) == [0, 1, 0, 1, 1, 1, pytest.approx(0.63), 22]
    np.testing.assert_allclose(found.spent_T_2, [[0.07, 6], [0.24, 16], [0.32, 0]])


def test_a_failed_answer_call_ends_nothing_and_is_paid_for_even_as_released() -> None:
    failed = trajectory([call("answer-1", dollars=0.5, seconds=3, error="timeout")])
    found = amounts(DRAW, columns(DRAW, Weights(), released=True), failed, released=True)
    assert found.total_2 == (0.5, 3)


def test_a_released_alias_weighs_by_its_own_name_before_its_tools() -> None:
    tools = {"search-1": 0.25, "search": 0.75}
    weights = {c.key: c.weight for c in columns(DRAW, Weights(tools=tools), released=True)}
    assert (weights["search-1"], weights["search-2"], weights["python"]) == (0.25, 0.75, 0.0)


def test_the_parts_name_where_a_reward_is_from() -> None:
    fond = Preference("", "", outcome=1.0, cost=0.5, latency=0.25, tools={"python": 0.125})
    trajectories = [
        trajectory([call("python", dollars=0.1, seconds=1)]),
        trajectory([call("search-1", dollars=0.3, seconds=1)]),
        trajectory([call("search-1", dollars=0.3, seconds=5)], right=False),
    ]
    first = score_group(group(fond), trajectories, is_right, RewardSettings()).episodes[0]
    assert first.parts == {
        RewardPart.TOOLS: 0.125,
        RewardPart.OUTCOME: 1.0,
        RewardPart.COST: 0.5,
        RewardPart.LATENCY: 0.25,
    }


SPENDINGS = st.lists(
    st.tuples(st.booleans(), st.lists(st.integers(0, 64), min_size=1, max_size=3)),
    min_size=2,
    max_size=6,
)


def spending(right: bool, cents_by_turn: Sequence[int], dear: float = 1.0) -> Trajectory:
    entries = [
        call("search-1", turn, dollars=dear * cents / 64, seconds=float(cents))
        for turn, cents in enumerate(cents_by_turn)
    ]
    return trajectory(entries, right, len(cents_by_turn))


def settings_of(combination: str, advantage: str, turn_credit: bool = False) -> RewardSettings:
    return RewardSettings(
        combination,
        advantage,
        Weights(usd=0.5, seconds=0.25, tools={"search": 0.125}),
        budget_usd=2.0,
        multiplier=1.5,
        turn_credit=turn_credit,
    )


SETTINGS = st.builds(
    settings_of, st.sampled_from(list(COMBINATIONS)), st.sampled_from(list(ESTIMATORS))
)


@given(SPENDINGS, SETTINGS)
def test_the_parts_sum_to_the_reward(spendings: list, settings: RewardSettings) -> None:
    trajectories = [spending(*s) for s in spendings]
    for episode in score_group(group(), trajectories, is_right, settings).episodes:
        assert sum(episode.parts.values()) == pytest.approx(episode.reward, abs=1e-9)
        assert episode.parts.keys() == {"tools", "outcome", "cost", "latency"}


@given(SPENDINGS.filter(lambda s: len(s) > 1), SETTINGS)
def test_equal_episodes_push_nowhere(spendings: list, settings: RewardSettings) -> None:
    same = [spending(*spendings[0])] * len(spendings)
    score = score_group(group(), same, is_right, replace(settings, turn_credit=True))
    assert not score.keep
    assert score.reason == (DropReason.EQUAL if spendings[0][0] else DropReason.ALL_WRONG)
    assert all(e.advantage == 0 and not e.turn_advantages for e in score.episodes)


@given(SPENDINGS, SETTINGS, st.booleans(), st.randoms(use_true_random=False))
def test_permuting_the_group_permutes_its_scores(
    spendings: list, settings: RewardSettings, turn_credit: bool, random: Random
) -> None:
    settings = replace(settings, turn_credit=turn_credit)
    trajectories = [spending(*s) for s in spendings]
    order = list(range(len(spendings)))
    random.shuffle(order)
    here = score_group(group(), trajectories, is_right, settings)
    there = score_group(group(), [trajectories[n] for n in order], is_right, settings)
    assert there.reason == here.reason
    for found, n in zip(there.episodes, order, strict=True):
        wanted = here.episodes[n]
        assert (found.correct, found.reward) == (wanted.correct, pytest.approx(wanted.reward))
        assert found.advantage == pytest.approx(wanted.advantage, abs=1e-6)
        assert found.turn_advantages == pytest.approx(wanted.turn_advantages, abs=1e-6)


@given(SPENDINGS, st.sampled_from([1 / 8, 64.0]))
def test_the_unit_of_a_budget_does_not_matter(spendings: list, unit: float) -> None:
    dollars, others = (
        score_group(
            group(),
            [spending(right, cents, dear) for right, cents in spendings],
            is_right,
            replace(settings_of("budgeted", "dr_grpo"), budget_usd=2.0 * dear),
        )
        for dear in (1.0, unit)
    )
    for one, other in zip(dollars.episodes, others.episodes, strict=True):
        assert other.reward == pytest.approx(one.reward, abs=1e-6)


@given(SPENDINGS, SETTINGS)
def test_credit_by_turn_leaves_the_rest_of_the_score_as_it_is(
    spendings: list, settings: RewardSettings
) -> None:
    trajectories = [spending(*s) for s in spendings]
    whole = score_group(group(), trajectories, is_right, settings)
    by_turn = score_group(group(), trajectories, is_right, replace(settings, turn_credit=True))
    stripped = tuple(replace(e, turn_advantages=()) for e in by_turn.episodes)
    assert replace(by_turn, episodes=stripped) == whole
    for episode, trajectory in zip(by_turn.episodes, trajectories, strict=True):
        assert len(episode.turn_advantages) == (len(trajectory.turns) if whole.keep else 0)
        if whole.keep:
            assert episode.turn_advantages[0] == pytest.approx(episode.advantage)


def test_what_was_paid_early_is_sunk_for_the_late_turns() -> None:
    early, late = spending(True, [32, 0, 0]), spending(True, [0, 0, 32])
    settings = settings_of("budgeted", "dr_grpo", turn_credit=True)
    wrong = spending(False, [0, 0, 32])
    score = score_group(group(), [early, late, wrong], is_right, settings)
    by_turn = [episode.turn_advantages for episode in score.episodes]
    # A multiplier of 1.5 on 2 dollars, and half a dollar each: a price of 0.375 for each.
    # After the first turn one of three has paid it, a mean of 0.125.
    np.testing.assert_allclose(by_turn[0], [1 / 3, 1 / 3 + 0.25, 1 / 3 + 0.25])
    np.testing.assert_allclose(by_turn[1], [1 / 3, 1 / 3 - 0.125, 1 / 3 - 0.125])
    np.testing.assert_allclose(by_turn[2], [-2 / 3, -2 / 3 - 0.125, -2 / 3 - 0.125])


def test_a_budget_charges_right_and_wrong_alike() -> None:
    trajectories = [spending(True, [64]), spending(False, [128])]
    assert rewards(trajectories, settings=settings_of("budgeted", "grpo")) == [0.25, -1.5]


def test_a_multiplier_of_twice_the_size_moves_right_episodes_twice_as_far() -> None:
    trajectories = [spending(True, [64]), spending(True, [128])]
    config = RewardConfig(preset="budgeted", budget_usd=1.0)
    once, twice = (
        score_group(
            group(),
            trajectories,
            is_right,
            replace(RewardSettings.of(config), multiplier=multiplier),
        )
        for multiplier in (0.5, 1.0)
    )
    ratio = [b.advantage / a.advantage for a, b in zip(once.episodes, twice.episodes, strict=True)]
    assert ratio == pytest.approx([2.0, 2.0])


def test_fixed_weights_stand_in_for_the_preference() -> None:
    trajectories = [spending(True, [64]), spending(False, [128])]
    settings = settings_of("scalarised", "grpo")
    # 1 - 0.5 - 0.25 * 64 + 0.125 a call
    assert rewards(trajectories, FRUGAL, settings) == [-15.375, -32.875]
    assert rewards(trajectories, liking({"python": 1.0}), settings) == [-15.375, -32.875]


@pytest.mark.parametrize(
    ("trajectories", "preference", "reason"),
    [
        ([spending(True, [1])], FRUGAL, DropReason.SINGLE),
        ([spending(False, [1]), spending(False, [9])], FRUGAL, DropReason.ALL_WRONG),
        ([spending(True, [1]), spending(True, [1])], FRUGAL, DropReason.EQUAL),
        (
            [spending(True, [1]), spending(True, [9])],
            replace(FRUGAL, cost=0.05),
            DropReason.CLOSE,
        ),
    ],
)
def test_a_dropped_group_says_why(
    trajectories: list[Trajectory], preference: Preference, reason: DropReason
) -> None:
    score = score_group(group(preference), trajectories, is_right, RewardSettings())
    assert (score.keep, score.reason) == (False, reason)
    assert [episode.advantage for episode in score.episodes] == [0.0] * len(trajectories)


def test_an_episode_that_never_spoke_is_scored() -> None:
    """A prompt over its limit: no turn, no call, no answer."""
    silent = trajectory([], right=False, turns=0)
    settings = replace(RewardSettings(), turn_credit=True)
    score = score_group(group(), [silent, spending(True, [1, 2])], is_right, settings)
    assert [e.reward for e in score.episodes] == [0.0, 1.0 + 0.0]
    assert [len(e.turn_advantages) for e in score.episodes] == [0, 2]


@pytest.mark.parametrize(
    ("name", "estimator"),
    [
        ("paper", "paper"),
        ("released", "released"),
        ("gdpo", "gdpo"),
        ("scalarised", "grpo"),
        ("budgeted", "dr_grpo"),
    ],
)
def test_a_preset_brings_its_estimator(name: str, estimator: str) -> None:
    settings = RewardSettings.of(RewardConfig(preset=name, budget_usd=1.0))
    assert (settings.combination, settings.advantage) == (name, estimator)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"combination": "nonsense"}, "nonsense.*paper, released, gdpo"),
        ({"advantage": "nonsense"}, "nonsense.*paper, released, grpo"),
        ({"combination": "budgeted"}, "budget_usd"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RewardSettings(**settings)
