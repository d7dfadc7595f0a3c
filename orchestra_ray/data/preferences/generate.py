"""Generates pairs of instruction and weights from templates, split by template and by weights.

A pure function of the catalogue, whether names are hidden, the seed and the count. Templates and
weight vectors are each divided in two before any pair is made: templates or vectors that are new
in a split occur in no training pair, and those that are not new occur in at least one.
"""

import random
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.seeds import derive_seed
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.preferences.intents import (
    Intents,
    Weights,
    all_intents,
    is_consistent,
    kind_of,
    weights_of,
)
from orchestra_ray.data.preferences.load import Pair, Split
from orchestra_ray.data.preferences.name_leaks import named_in
from orchestra_ray.data.preferences.templates import Bank, Phrasing, all_templates, phrasings

T = TypeVar("T")
HELDOUT_SHARE = 0.1  # of the pairs, for each held-out split
NEW_TEMPLATES = 1 / 3  # of the templates under each key of the bank
NEW_VECTORS = 0.25  # of the weight vectors of each kind of user
MIN_PAIRS = 10  # at least one for each split


@dataclass(frozen=True, slots=True)
class Candidate:
    """Intents and one of their phrasings."""

    intents: Intents
    phrasing: Phrasing


def generate(catalogue: Catalogue, aliases: bool, seed: int, count: int) -> list[Pair]:
    """Returns `count` pairs, training pairs first; raises `ConfigError` if there are too few."""
    if count < MIN_PAIRS:
        raise ConfigError(f"--count {count}: four splits need {MIN_PAIRS} pairs; raise it")
    maker = _Maker(catalogue, aliases, seed)
    heldout = round(HELDOUT_SHARE * count)
    by_split = {Split.TRAIN: maker.train(count - heldout * (len(Split) - 1))}
    by_split |= {
        split: maker.heldout(split, heldout) for split in Split if split is not Split.TRAIN
    }
    placed = [(split, one) for split, many in by_split.items() for one in many]
    return [_pair(number, one, split) for number, (split, one) in enumerate(placed)]


class _Maker:
    """Makes the pairs of each split, and keeps the templates and vectors of the training pairs."""

    def __init__(self, catalogue: Catalogue, aliases: bool, seed: int):
        self._catalogue, self._aliases, self._seed = catalogue, aliases, seed
        self._training_bank, self._heldout_bank = split_bank(all_templates(), seed)
        intended = all_intents(catalogue, aliases)
        new = new_vectors(intended, seed)
        self._training_intents = [intents for intents in intended if weights_of(intents) not in new]
        self._heldout_intents = [intents for intents in intended if weights_of(intents) in new]
        self._templates: set[str] = set()
        self._vectors: set[Weights] = set()

    def train(self, count: int) -> list[Candidate]:
        found = self._take(Split.TRAIN, self._training_intents, self._training_bank, count)
        self._templates = {name for one in found for name in one.phrasing.templates}
        self._vectors = {weights_of(one.intents) for one in found}
        return found

    def heldout(self, split: Split, count: int) -> list[Candidate]:
        trained = [
            intents for intents in self._training_intents if weights_of(intents) in self._vectors
        ]
        intended = trained if split is Split.NEW_WORDING else self._heldout_intents
        if split is Split.NEW_VECTOR:
            return self._take(split, intended, _only(self._training_bank, self._templates), count)
        return self._take(split, intended, self._heldout_bank, count)

    def _take(
        self, split: Split, intended: Sequence[Intents], bank: Bank, count: int
    ) -> list[Candidate]:
        candidates = all_candidates(intended, bank, derive_seed(self._seed, split.value))
        found = list(islice((one for one in candidates if self._is_allowed(one)), count))
        if len(found) < count:
            problem = f"--count: only {len(found)} of {count} pairs for {split.value}"
            raise ConfigError(f"{problem}; lower it, or offer more models and tools")
        return found

    def _is_allowed(self, candidate: Candidate) -> bool:
        if not self._aliases:
            return True
        return named_in(candidate.phrasing.instruction, self._catalogue) is None


def all_candidates(intended: Sequence[Intents], bank: Bank, seed: int) -> Iterator[Candidate]:
    """Yields every candidate once: kinds of user in turn, and intents in turn within each."""
    by_kind: dict[str, list[Intents]] = {}
    for intents in _shuffled(intended, seed, "wishes"):
        by_kind.setdefault(kind_of(intents), []).append(intents)

    def candidates(kind: str, number: int, intents: Intents) -> Iterator[Candidate]:
        for phrasing in _shuffled(phrasings(intents, bank), seed, kind, number):
            yield Candidate(intents, phrasing)

    return _in_turn(
        _in_turn(candidates(kind, n, intents) for n, intents in enumerate(own))
        for kind, own in sorted(by_kind.items())
    )


def split_bank(bank: Bank, seed: int) -> tuple[Bank, Bank]:
    """Returns (training, held-out) banks; each has templates for every intent."""
    old, new = {}, {}
    for key, templates in bank.items():
        shuffled = _shuffled(templates, seed, *(str(part) for part in key))
        held = round(NEW_TEMPLATES * len(shuffled))
        new[key], old[key] = shuffled[:held], shuffled[held:]
    return old, new


def new_vectors(intended: Iterable[Intents], seed: int) -> set[Weights]:
    """Returns the held-out share of each kind's weight vectors."""
    by_kind: dict[str, list[Weights]] = {}
    kind_of_weights: dict[Weights, str] = {}
    for intents in intended:
        weights = weights_of(intents)
        if kind_of_weights.setdefault(weights, kind := kind_of(intents)) == kind:
            by_kind.setdefault(kind, []).append(weights)
    new: set[Weights] = set()
    for kind, own in by_kind.items():
        shuffled = _shuffled(dict.fromkeys(own), seed, "vectors", kind)
        new.update(shuffled[: round(NEW_VECTORS * len(shuffled))])
    return new


def _pair(number: int, candidate: Candidate, split: Split) -> Pair:
    weights, kind = weights_of(candidate.intents), kind_of(candidate.intents)
    assert is_consistent(candidate.intents, weights), candidate
    preference = weights.preference(f"{kind}-{number}", candidate.phrasing.instruction)
    return Pair(preference, split, kind, candidate.phrasing.templates)


def _only(bank: Bank, names: set[str]) -> Bank:
    return {
        key: [template for template in templates if template.name in names]
        for key, templates in bank.items()
    }


def _in_turn(many: Iterable[Iterator[T]]) -> Iterator[T]:
    """Yields from each iterator in turn, until all are exhausted."""
    waiting = deque(many)
    while waiting:
        one = waiting.popleft()
        for value in islice(one, 1):
            waiting.append(one)
            yield value


def _shuffled(values: Iterable[T], seed: int, *parts: int | str) -> list[T]:
    whole = list(values)
    random.Random(derive_seed(seed, *parts)).shuffle(whole)
    return whole


def count_by_kind(pairs: Sequence[Pair]) -> Mapping[str, Mapping[Split, int]]:
    """Returns the number of pairs by kind of user and split."""
    counts: dict[str, dict[Split, int]] = {}
    for pair in pairs:
        row = counts.setdefault(pair.kind, dict.fromkeys(Split, 0))
        row[pair.split] += 1
    return counts
