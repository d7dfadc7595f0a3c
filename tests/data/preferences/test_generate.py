"""Pairs from templates: reproducible, consistent, split by template and by weights."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.data.catalogue import Catalogue, load_catalogue
from orchestra_ray.data.preferences.generate import count_by_kind, generate, split_bank
from orchestra_ray.data.preferences.intents import Aspect, Strength
from orchestra_ray.data.preferences.load import Pair, Split
from orchestra_ray.data.preferences.name_leaks import named_in
from orchestra_ray.data.preferences.templates import SHORT_WORDS, Register, all_templates

COUNT = 1_500


@pytest.fixture(scope="module", params=[True, False], ids=["aliases", "names"])
def pairs(request: pytest.FixtureRequest, paper: Catalogue) -> list[Pair]:
    return generate(paper, request.param, 7, COUNT)


def vectors(pairs: Sequence[Pair], *splits: Split) -> set[tuple]:
    return {vector(pair) for pair in pairs if pair.split in splits}


def vector(pair: Pair) -> tuple:
    p = pair.preference
    return (p.outcome, p.cost, p.latency, tuple(sorted(p.tools.items())))


def templates(pairs: Sequence[Pair], *splits: Split) -> set[str]:
    return {name for pair in pairs if pair.split in splits for name in pair.templates}


def test_there_are_as_many_as_asked_for_and_every_split_has_its_share(pairs: list[Pair]) -> None:
    by_split = {split: sum(pair.split is split for pair in pairs) for split in Split}
    assert by_split == {
        Split.TRAIN: 1_050,
        Split.NEW_WORDING: 150,
        Split.NEW_VECTOR: 150,
        Split.NEW_BOTH: 150,
    }
    for kind, row in count_by_kind(pairs).items():
        assert all(row.values()), kind


def test_what_a_split_calls_new_is_in_no_training_pair_and_all_else_is(pairs: list[Pair]) -> None:
    trained, said = vectors(pairs, Split.TRAIN), templates(pairs, Split.TRAIN)
    assert vectors(pairs, Split.NEW_WORDING) <= trained
    assert vectors(pairs, Split.NEW_VECTOR, Split.NEW_BOTH).isdisjoint(trained)
    assert templates(pairs, Split.NEW_VECTOR) <= said
    assert templates(pairs, Split.NEW_WORDING, Split.NEW_BOTH).isdisjoint(said)


def test_an_instruction_stands_once_and_so_has_one_meaning(pairs: list[Pair]) -> None:
    assert len({pair.preference.instruction for pair in pairs}) == len(pairs)
    assert len({pair.preference.name for pair in pairs}) == len(pairs)


def test_short_ones_keep_to_their_words_and_long_ones_to_two_sentences(pairs: list[Pair]) -> None:
    for pair in pairs:
        registers = {name.split(".")[2] for name in pair.templates}
        words = len(pair.preference.instruction.split())
        if registers == {Register.SHORT}:
            assert words <= SHORT_WORDS
        else:
            assert registers == {Register.LONG} and len(pair.templates) <= 2
            assert pair.preference.instruction.count(". ") == len(pair.templates) - 1


def test_the_phrasing_is_of_the_strength_that_the_weight_has(pairs: list[Pair]) -> None:
    for pair in pairs:
        p = pair.preference
        said = {}
        for name in pair.templates:
            aspect, strength, _, _ = name.split(".")
            said[Aspect(aspect)] = Strength[strength.upper()].value
        assert p.cost == said.pop(Aspect.COST, 0.0)
        assert p.latency == said.pop(Aspect.LATENCY, 0.0)
        assert p.outcome == said.pop(Aspect.OUTCOME, 0.6)
        assert set(p.tools.values()) == set(said.values())


def test_behind_aliases_no_model_is_named(paper: Catalogue) -> None:
    for pair in generate(paper, True, 3, 600):
        assert named_in(pair.preference.instruction, paper) is None, pair


def test_a_model_with_a_name_that_templates_hold_takes_their_sentences_away(
    simulated: Catalogue,
) -> None:
    entries = dict(simulated.entries)
    entries["money"] = replace(entries["nova"], name="money")
    called = replace(simulated, entries=entries)
    assert any("money" in pair.preference.instruction for pair in generate(simulated, True, 0, 600))
    assert not any("money" in p.preference.instruction for p in generate(called, True, 0, 600))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Use gpt-5 only.", "gpt-5"),
        ("No Llama, please.", "Llama"),
        ("Avoid qwen3 at all costs.", "qwen"),
        ("Ask meta-llama/Llama-3.3-70B-Instruct-Turbo.", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        ("I trust model-2.", "model-2"),
        ("Use the web_search tool and what runs here.", None),
        ("Models that run here are better.", None),
    ],
)
def test_names_families_and_aliases_are_found_in_an_instruction(
    paper: Catalogue, text: str, named: str | None
) -> None:
    assert named_in(text, paper) == named


@settings(max_examples=10)
@given(st.integers(0, 2**40))
def test_the_same_seed_gives_the_same_pairs(seed: int) -> None:
    catalogue = load_catalogue("configs/catalogues/simulated.yaml")
    pairs = generate(catalogue, True, seed, 40)
    assert pairs == generate(catalogue, True, seed, 40)
    assert pairs != generate(catalogue, True, seed + 1, 40)


def test_more_than_there_are_is_a_mistake(simulated: Catalogue) -> None:
    with pytest.raises(ConfigError, match="pairs for train; lower it"):
        generate(simulated, True, 0, 1_000_000)
    with pytest.raises(ConfigError, match="--count 5: four splits need 10"):
        generate(simulated, True, 0, 5)


def test_no_sentence_stands_twice() -> None:
    texts = [template.text for bank in all_templates().values() for template in bank]
    assert len(set(texts)) == len(texts) == 216
    assert all(text.endswith(".") for text in texts)


def test_each_half_of_the_templates_can_say_everything() -> None:
    whole = all_templates()
    old, new = split_bank(whole, 5)
    for key, templates in whole.items():
        assert old[key] and new[key]
        assert {t.name for t in old[key]} | {t.name for t in new[key]} == {
            t.name for t in templates
        }
        assert not {t.name for t in old[key]} & {t.name for t in new[key]}
