from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.workers.tools.search.text import encodable, pieces

LIMIT = st.integers(1, 40)


@given(st.text(st.sampled_from("ab .\n。"), max_size=300), LIMIT)
def test_pieces_are_short_and_lose_only_white_space(text: str, limit_chars: int) -> None:
    found = list(pieces(text, limit_chars))
    assert all(0 < len(piece) <= limit_chars and piece == piece.strip() for piece in found)
    assert "".join("".join(found).split()) == "".join(text.split())


@given(st.text(max_size=40))
def test_a_text_within_the_limit_is_one_piece(text: str) -> None:
    assert list(pieces(text, 40)) == ([text.strip()] if text.strip() else [])


def test_a_text_is_cut_at_the_end_of_a_paragraph_before_that_of_a_sentence() -> None:
    text = "One two three.\n\nFour. Five six seven"
    assert list(pieces(text, 24)) == ["One two three.", "Four. Five six seven"]


def test_a_word_longer_than_the_limit_is_cut_where_the_limit_is() -> None:
    assert list(pieces("a" * 25, 10)) == ["a" * 10, "a" * 10, "a" * 5]


@given(st.text(st.characters(exclude_categories=[])))
def test_encodable_text_encodes_and_whole_text_is_unchanged(text: str) -> None:
    encoded = encodable(text).encode()
    assert len(encoded.decode()) == len(text)
    assert encodable(encoded.decode()) == encoded.decode()
