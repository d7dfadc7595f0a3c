"""Random values are detected under any name, and ordinary ones are not."""

import base64
import random
import string
from collections.abc import Callable

import pytest

from orchestra_ray.tracking.randomness import is_random, is_word
from orchestra_ray.tracking.redact import Redactor
from orchestra_ray.tracking.secret_forms import MARK
from orchestra_ray.tracking.secrets import is_secret

from .ordinary_values import ENGLISH, GERMAN, KINDS, WORDS

LOWER = string.ascii_lowercase + string.digits
MIXED = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
SAFE = MIXED + "-_"
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


@pytest.mark.parametrize(
    "make",
    [
        *(between("sk-proj-", of(SAFE, 48), ""), between("sk-", of(HEX, 32), "")),
        *(between("sk-ant-api03-", of(SAFE, 93), "AA"), between("sk-or-v1-", of(HEX, 64), "")),
        *(between("gh" + "p_", of(MIXED, 36), ""), between("gl" + "pat-", of(SAFE, 20), "")),
        between("github_pat_", of(MIXED, 22), "_" + "a1B2" * 14),
        *(between("hf_", of(string.ascii_letters, 34), ""), between("npm_", of(MIXED, 36), "")),
        *(between("sk_" + "live_", of(MIXED, 24), ""), between("whsec_", of(MIXED + "+/", 32), "")),
        *(between("AI" + "za", of(SAFE, 35), ""), between("GOCSPX-", of(SAFE, 28), "")),
        *(between("jina_", of(HEX, 32), "x" * 28), between("ntn_12345678901", of(MIXED, 35), "")),
        *(between("rpa_", of(LOWER.upper(), 42), ""), between("csk-", of(LOWER, 48), "")),
        *(between("gsk_", of(MIXED, 52), ""), between("hvs.", of(MIXED, 24), "")),
        *(between("tvly-dev-", of(MIXED, 32), ""), between("xai-", of(MIXED, 80), "")),
        *(between("pypi-AgEIcHlwaS5vcmc", of(SAFE, 150), ""), between("sk_", of(HEX, 48), "")),
        *(between("Authorization: ", of(MIXED, 20), ""), between("Bearer ", of(MIXED, 24), "")),
        *(between("WANDB_API_KEY=", of(HEX, 40), ""), between("x-api-key: ", of(MIXED, 32), "")),
        between("aws_secret_access_key=", of(MIXED + "+/", 40), ""),
    ],
)
def test_nearly_every_random_value_of_a_known_form_is_hidden_in_a_text(make: Make) -> None:
    rng, redactor = random.Random(7), Redactor.of({})
    assert sum(redactor.text(f"a {make(rng)} b").endswith(f"{MARK} b") for _ in range(500)) >= 495


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
