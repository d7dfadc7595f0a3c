"""Random values are found under any name, and ordinary ones are not taken for random."""

import base64
import random
import string
from collections.abc import Callable

import pytest

from orchestra_ray.tracking.randomness import is_random, is_word
from orchestra_ray.tracking.secrets import is_secret

from .ordinary_values import ENGLISH, GERMAN, KINDS, WORDS

LOWER = string.ascii_lowercase + string.digits
MIXED = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
Make = Callable[[random.Random], str]


def of(alphabet: str, length: int) -> Make:
    return lambda rng: "".join(rng.choice(alphabet) for _ in range(length))


def in_base64(count: int, safe: bool) -> Make:
    encode = base64.urlsafe_b64encode if safe else base64.b64encode
    return lambda rng: encode(rng.randbytes(count)).decode()


def between(before: str, make: Make, after: str) -> Make:
    return lambda rng: before + make(rng) + after


@pytest.mark.parametrize(
    "make",
    [
        *(of(LOWER, 32), of(LOWER, 24), of(HEX, 24), of(HEX, 32), of(HEX.upper(), 32), of(HEX, 64)),
        *(of(MIXED, 20), of(MIXED, 24), of(MIXED, 32), of(LOWER.upper(), 32)),
        *(of(string.ascii_letters, 24), of(string.ascii_lowercase, 32), of(MIXED + "+/", 40)),
        *(in_base64(24, True), in_base64(32, True), in_base64(24, False), in_base64(32, False)),
        *(between("bob:", of(MIXED, 20), ""), between("a,b;", of(MIXED, 24), ",c")),
        between("123456789:AA", of(MIXED + "-_", 33), ""),
    ],
)
def test_nearly_every_random_value_is_found(make: Make) -> None:
    rng = random.Random(7)
    assert sum(is_random(make(rng)) for _ in range(500)) >= 475


@pytest.mark.parametrize("kind", KINDS)
def test_no_ordinary_value_is_taken_for_a_secret(kind: str) -> None:
    taken = [value for value in KINDS[kind] if is_secret("FOO", value)]
    assert not taken


def test_the_ordinary_values_are_many() -> None:
    assert sum(map(len, KINDS.values())) > 400


@pytest.mark.parametrize("name", ["GIT_COMMIT", "CI_COMMIT_SHA", "GITHUB_SHA", "MODEL_REVISION"])
def test_a_hash_under_a_name_that_says_so_stays(name: str) -> None:
    rng = random.Random(7)
    assert not any(is_secret(name, of(HEX, 40)(rng)) for _ in range(50))


def test_words_can_be_pronounced_and_random_letters_cannot() -> None:
    assert all(map(is_word, [*GERMAN, *ENGLISH, *WORDS]))
    rng = random.Random(7)
    assert sum(is_word(of(string.ascii_lowercase, 24)(rng)) for _ in range(500)) < 25
