"""Which calls have the same key in a cassette."""

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.workers.tools.replay.cassette import canonical_digest, key_of

from ..tapes import CALLER, MODEL, SEARCH, TASK, ask


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.text())), st.randoms())
def test_the_order_of_arguments_does_not_matter(
    arguments: dict[str, Any], shuffler: random.Random
) -> None:
    names = list(arguments)
    shuffler.shuffle(names)
    shuffled = {name: arguments[name] for name in names}
    nested = {"outer": [arguments]}, {"outer": [shuffled]}
    assert canonical_digest(nested[0]) == canonical_digest(nested[1])


def test_price_alias_latency_and_ids_are_not_in_the_key() -> None:
    cheap = replace(MODEL, alias="expert 7", prices=Prices(1, 1, 1), latency_s=9.0)
    later = replace(CALLER, step=9, episode_id="another", turn=3)
    moved = replace(ask(option=cheap), call_id="another", caller=later)
    assert key_of(moved, "1") == key_of(ask(), "1")


@pytest.mark.parametrize(
    "changed",
    [
        ask(option=SEARCH, query="dogs"),
        ask(option=SEARCH, query=["cats"]),
        ask(option=SEARCH, query="cats", k=1),
        ask(option=replace(SEARCH, identity="web-search"), query="cats"),
    ],
)
def test_another_request_has_another_content(changed: ToolRequest) -> None:
    base = ask(option=SEARCH, query="cats")
    assert key_of(changed, "1").content != key_of(base, "1").content


def test_another_version_has_another_content() -> None:
    assert key_of(ask(), "1").content != key_of(ask(), "2").content


def test_the_question_is_in_the_key_of_a_model_and_not_of_a_tool() -> None:
    other = replace(TASK, question="What is 2 + 3?")
    for option, differs in ((MODEL, True), (SEARCH, False)):
        base = ask(option=option)
        keys = key_of(base, "1"), key_of(replace(base, task=other), "1")
        assert (keys[0].content != keys[1].content) is differs


def test_seed_and_attempt_make_the_sample_and_leave_the_content() -> None:
    keys = [key_of(ask(seed, attempt), "1") for seed in range(4) for attempt in range(4)]
    assert len({key.sample for key in keys}) == 16
    assert len({key.content for key in keys}) == 1
