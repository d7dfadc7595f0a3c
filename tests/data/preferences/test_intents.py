"""From intents to weights: wanted options have weight, avoided ones have none."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.data.catalogue import Catalogue, load_catalogue
from orchestra_ray.data.preferences.intents import (
    UNSAID_OUTCOME,
    Aspect,
    Intent,
    Intents,
    Strength,
    Target,
    Weights,
    all_intents,
    is_consistent,
    offered_entries,
    weights_of,
)

SEARCH = Target("the search tool", ("search",), ("python", "calculator"))
EVERY = [
    intents
    for path in ("simulated", "paper")
    for aliases in (True, False)
    for intents in all_intents(load_catalogue(f"configs/catalogues/{path}.yaml"), aliases)
]


@pytest.mark.parametrize(
    ("intents", "weights"),
    [
        ((Intent(Aspect.COST, Strength.STRONG),), Weights(UNSAID_OUTCOME, 1.0, 0.0)),
        ((Intent(Aspect.LATENCY, Strength.SLIGHT),), Weights(UNSAID_OUTCOME, 0.0, 0.3)),
        ((Intent(Aspect.OUTCOME, Strength.STRONG),), Weights(1.0, 0.0, 0.0)),
        (
            (Intent(Aspect.OUTCOME, Strength.SLIGHT), Intent(Aspect.COST, Strength.CLEAR)),
            Weights(0.3, 0.6, 0.0),
        ),
        (
            (Intent(Aspect.LIKE, Strength.CLEAR, SEARCH),),
            Weights(UNSAID_OUTCOME, 0.0, 0.0, (("search", 0.6),)),
        ),
        (
            (Intent(Aspect.AVOID, Strength.STRONG, SEARCH), Intent(Aspect.LATENCY, Strength.CLEAR)),
            Weights(UNSAID_OUTCOME, 0.0, 0.6, (("calculator", 1.0), ("python", 1.0))),
        ),
    ],
)
def test_weights_of_intents(intents: Intents, weights: Weights) -> None:
    assert weights_of(intents) == weights


@given(st.sampled_from(EVERY))
def test_every_preference_is_consistent_with_its_weights(intents: Intents) -> None:
    weights = weights_of(intents)
    assert is_consistent(intents, weights)
    values = [weights.outcome, weights.cost, weights.latency, *dict(weights.tools).values()]
    assert all(0 <= value <= 1 for value in values)


@given(st.sampled_from(EVERY), st.sampled_from(["outcome", "cost", "latency"]))
def test_an_amount_of_another_weight_is_inconsistent(intents: Intents, name: str) -> None:
    weights = weights_of(intents)
    assert not is_consistent(intents, replace(weights, **{name: getattr(weights, name) + 0.1}))


@given(st.sampled_from([w for w in EVERY if weights_of(w).tools]), st.data())
def test_a_tool_of_another_weight_is_inconsistent(intents: Intents, data: st.DataObject) -> None:
    weights = weights_of(intents)
    aimed = next(intent for intent in intents if intent.target is not None)
    assert aimed.target is not None
    avoided = aimed.target.names if aimed.aspect is Aspect.AVOID else aimed.target.others
    wrong = data.draw(st.sampled_from(avoided))
    more = Weights.made(
        weights.outcome, weights.cost, weights.latency, {**dict(weights.tools), wrong: 1.0}
    )
    assert not is_consistent(intents, more)
    assert not is_consistent(intents, replace(weights, tools=()))


def test_weights_are_only_on_what_a_toolset_can_offer(paper: Catalogue) -> None:
    names = {entry.name for entry in offered_entries(paper)}
    weighed = {name for w in all_intents(paper, False) for name, _ in weights_of(w).tools}
    assert weighed == names and "tavily" not in names and "gemma-3-27b" not in names


def test_what_is_confidential_stays_with_models_that_are_served_here(paper: Catalogue) -> None:
    """Web search sends data out, and so may a recipe with a model elsewhere."""
    (intent,) = next(w for w in all_intents(paper, True) if w[0].aspect is Aspect.LOCAL)
    assert intent.target is not None and intent.target.words == "models that run here"
    assert set(intent.target.names) == {
        "phi-4-mini",
        "qwen3-32b",
        "qwen2.5-math-72b",
        "qwen2.5-math-7b",
    }


def test_no_local_intent_where_nothing_is_sent_out(simulated: Catalogue) -> None:
    aspects = {intent.aspect for intents in all_intents(simulated, False) for intent in intents}
    assert aspects == set(Aspect) - {Aspect.LOCAL}


def test_models_and_families_are_intended_only_where_names_are_shown(paper: Catalogue) -> None:
    def words(aliases: bool) -> set[str]:
        intended = all_intents(paper, aliases)
        return {intent.target.words for intents in intended for intent in intents if intent.target}

    assert words(True) == {
        "the web_search tool",
        "the local_search tool",
        "the code tool",
        "the tools",
        "the models",
        "models that run here",
    }
    assert {"gpt-5", "the gpt models", "the llama models", "the qwen models"} <= words(False)
