"""Token counts without a tokenizer against a real vocabulary, and truncation by them."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.token_count import cut_middle, cut_to_fit, most_tokens, tokens

SCRIPTS = {
    "English": "The quick brown fox jumps over the lazy dog, while philosophers debate. ",
    "code": "def f(x: int) -> dict:\n    return {k: v**2 for k, v in zip(range(x), [1, 2, 3])}\n",
    "sums": "What is 1234 + 5678 - 91 * 17 / 3 = ? 17, 23, 42; ",
    "Vietnamese": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm. ",
    "Russian": "Все люди рождаются свободными и равными в своем достоинстве и правах. ",
    "Arabic": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. ",
    "Hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है। ",
    "Burmese": "လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် ",
    "Amharic": "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው። ",
    "Tibetan": "འགྲོ་བ་མིའི་རིགས་རྒྱུད་ཡོངས་ལ་སྐྱེས་ཙམ་ཉིད་ནས་ཆེ་མཐོངས་དང་། ",
    "Chinese": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心。",
    "classical Chinese": "道可道，非常道。名可名，非常名。齏粉饕餮鼙鼓",
    "Japanese": "すべての人間は、生れながらにして自由であり、かつ平等である。",
    "Korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. ",
    "emoji": "😀😃🎉👩‍👩‍👧‍👦🏳️‍🌈🇩🇪🤷🏽‍♀️🧑‍🚀 ",
    "mathematics": "∀x∈ℝ: x² ≥ 0 ⇒ ∑ᵢ₌₁ⁿ αᵢ·βᵢ ≤ ‖α‖‖β‖, ∫₀^∞ e^{−x²}dx = √π/2 ",
}


@pytest.fixture(scope="module")
def vocabulary() -> Any:
    """A byte-level vocabulary of 131k tokens."""
    spec = importlib.util.find_spec("mistral_common")
    if spec is None or spec.origin is None:
        pytest.skip("no mistral_common, which comes with vLLM")
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    return Tekkenizer.from_file(str(Path(spec.origin).parent / "data" / "tekken_240911.json"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_bound_holds_in_every_script(vocabulary: Any, script: str) -> None:
    text = SCRIPTS[script] * 20
    assert len(vocabulary.encode(text, bos=False, eos=False)) <= most_tokens(text)


def test_english_keeps_more_than_two_characters_a_token() -> None:
    text = SCRIPTS["English"] * 20
    assert tokens(text) == len(text) // 4 and most_tokens(text) < len(text) / 2


@given(st.text())
def test_the_usual_count_is_below_the_bound_and_the_bound_below_the_bytes(text: str) -> None:
    size = len(text.encode(errors="replace"))
    assert 0 <= tokens(text) <= most_tokens(text) <= size
    assert text.isascii() or most_tokens(text) >= size / 3


@given(st.text(), st.integers(60, 200), st.sampled_from([most_tokens, tokens]))
def test_a_cut_fits_and_keeps_both_ends(text: str, room: int, count: Any) -> None:
    text = f"begin {text * 50} end"
    cut = cut_to_fit(text, room, count)
    assert count(cut) <= room
    if count(text) <= room:
        assert cut == text
    else:
        assert cut[0] == "b" and cut[-1] == "d" and "characters left out" in cut


def test_a_cut_says_how_much_it_left_out() -> None:
    cut = cut_middle("a" * 1000 + "b" * 1000, 200)
    assert len(cut) == 200 and cut.startswith("aaa") and cut.endswith("bbb")
