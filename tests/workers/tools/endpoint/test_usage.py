"""Parsing of reported usage, with one example of each dialect."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.money import Usage
from orchestra_ray.workers.tools.endpoint.usage import merged, usage_of, usages_in, whole_number

MOST, ESTIMATE = Usage(input_tokens=1000, output_tokens=500), Usage(7, 0, 9)

REPORTS: dict[str, tuple[dict[str, Any], Usage]] = {
    "OpenAI": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 60,
            "total_tokens": 160,
            "prompt_tokens_details": {"cached_tokens": 80, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 40},
        },
        Usage(100, 80, 60, 40),
    ),
    "OpenAI responses": (
        {
            "input_tokens": 100,
            "output_tokens": 60,
            "input_tokens_details": {"cached_tokens": 80},
            "output_tokens_details": {"reasoning_tokens": 40},
        },
        Usage(100, 80, 60, 40),
    ),
    "vLLM": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 60,
            "total_tokens": 160,
            "prompt_tokens_details": None,
        },
        Usage(100, 0, 60, 0),
    ),
    "SGLang": (
        {"prompt_tokens": 100, "completion_tokens": 60, "total_tokens": 160}
        | {"reasoning_tokens": 40, "prompt_tokens_details": {"cached_tokens": 64}},
        Usage(100, 64, 60, 40),
    ),
    "Gemini leaves the thoughts to the total": (
        {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 210},
        Usage(20, 0, 190, 0),
    ),
    "xAI counts the reasoning beside": (
        {"prompt_tokens": 12, "completion_tokens": 2, "total_tokens": 331}
        | {"completion_tokens_details": {"reasoning_tokens": 317}},
        Usage(12, 0, 319, 317),
    ),
    "reasoning beside, in no total": (
        {"prompt_tokens": 12, "completion_tokens": 2}
        | {"completion_tokens_details": {"reasoning_tokens": 317}},
        Usage(12, 0, 319, 317),
    ),
    "DeepSeek": (
        {"prompt_tokens": 100, "completion_tokens": 60, "total_tokens": 160}
        | {"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36},
        Usage(100, 64, 60, 0),
    ),
    "Moonshot": (
        {"prompt_tokens": 100, "completion_tokens": 60, "cached_tokens": 64},
        Usage(100, 64, 60, 0),
    ),
    "Anthropic counts the cached input beside": (
        {"input_tokens": 10, "output_tokens": 60}
        | {"cache_read_input_tokens": 80, "cache_creation_input_tokens": 5},
        Usage(95, 80, 60, 0),
    ),
    "a proxy that keeps Anthropic's names": (
        {"prompt_tokens": 95, "completion_tokens": 60, "cache_read_input_tokens": 80}
        | {"input_tokens": 10},
        Usage(95, 80, 60, 0),
    ),
    "floats and strings": (
        {"prompt_tokens": 100.0, "completion_tokens": "60", "total_tokens": "160.0"},
        Usage(100, 0, 60, 0),
    ),
    "nulls": (
        {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},
        ESTIMATE,
    ),
    "the total alone": ({"total_tokens": 160}, ESTIMATE),
    "no input": ({"completion_tokens": 60, "total_tokens": 160}, Usage(100, 0, 60, 0)),
    "no output": ({"prompt_tokens": 100, "total_tokens": 160}, Usage(100, 0, 60, 0)),
    "a total beyond the limit": (
        {"prompt_tokens": 100, "completion_tokens": 60, "total_tokens": 10_000},
        Usage(100, 0, 60, 0),
    ),
    "a total below its parts": (
        {"prompt_tokens": 100, "completion_tokens": 60, "total_tokens": 60},
        Usage(100, 0, 60, 0),
    ),
    "an input that cannot be": (
        {"prompt_tokens": 10**9, "completion_tokens": 60, "total_tokens": 10**9 + 400},
        Usage(7, 0, 60, 0),
    ),
}


@pytest.mark.parametrize("dialect", REPORTS)
def test_usage_is_read_in_every_dialect(dialect: str) -> None:
    told, usage = REPORTS[dialect]
    assert usage_of(told, MOST, ESTIMATE) == usage


NUMBERS = st.one_of(
    st.none(), st.integers(-5, 2000), st.floats(), st.text(max_size=4), st.booleans(), st.just([])
)
KEYS = ("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens")


@given(
    st.dictionaries(st.sampled_from((*KEYS, "cached_tokens", "reasoning_tokens")), NUMBERS),
    st.dictionaries(st.sampled_from(("cached_tokens", "reasoning_tokens")), NUMBERS),
)
def test_whatever_is_told_the_bill_keeps_to_the_limits_and_to_what_is_there(
    told: dict[str, Any], details: dict[str, Any]
) -> None:
    told |= {"completion_tokens_details": details, "prompt_tokens_details": details}
    usage = usage_of(told, MOST, ESTIMATE)
    assert 1 <= usage.input_tokens <= 1000 and 1 <= usage.output_tokens <= 500
    assert 0 <= usage.cached_tokens <= usage.input_tokens
    assert 0 <= usage.reasoning_tokens <= usage.output_tokens
    made = whole_number(told.get("completion_tokens"))
    assert made is None or not 1 <= made <= 500 or usage.output_tokens >= made


def test_usage_is_found_at_the_top_in_a_choice_and_in_groqs_object() -> None:
    one = {"prompt_tokens": 1}
    for piece in ({"usage": one}, {"x_groq": {"usage": one}}, {"choices": [{"usage": one}]}):
        assert list(usages_in(piece)) == [one]
    assert list(usages_in({"usage": None, "choices": None, "x_groq": "id"})) == []


def test_a_null_in_a_later_chunk_takes_nothing_back() -> None:
    first = {"input_tokens": 9, "output_tokens": 1}
    assert merged(first, {"input_tokens": None, "output_tokens": 5}) == {
        "input_tokens": 9,
        "output_tokens": 5,
    }
