import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.workers.tools.search.words import words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Quick-brown FOX", ["quick", "brown", "fox"]),
        ("World War I, 1914", ["world", "war", "i", "1914"]),
        ("Beyoncé naïve Ångström", ["beyonce", "naive", "angstrom"]),
        ("Straße ΣΊΣΥΦΟΣ İstanbul", ["strasse", "σισυφοσ", "istanbul"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("東京 tower", ["東", "京", "tower"]),
        ("한국어", ["한국어"]),
        ("<|im_end|><tool_call>", ["im", "end", "tool", "call"]),
        ("the of and", []),
        ("?! 🙂 \ud800", []),
        ("", []),
    ],
)
def test_words_are_folded_and_told_apart_by_script(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text(max_size=60))
def test_case_makes_no_difference_to_ascii_words(text: str) -> None:
    ascii_text = text.encode("ascii", "replace").decode()
    assert words(ascii_text.upper()) == words(ascii_text.lower())


@given(st.text(st.characters(max_codepoint=127), max_size=60))
def test_the_short_way_for_ascii_finds_the_same_words_as_the_long_way(text: str) -> None:
    assert words(text + " é") == [*words(text), "e"]


@given(st.text(max_size=60))
def test_words_hold_no_space_and_survive_a_second_reading(text: str) -> None:
    found = words(text)
    assert not any(re.search(r"\s", word) for word in found)
    assert words(" ".join(found)) == found
