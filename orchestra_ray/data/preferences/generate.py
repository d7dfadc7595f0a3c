"""Pairs of instruction and weights from templates, split by wording and by vector.

A pure function of the catalogue, whether names are hidden, the seed and the number. Templates and
weights are each divided in two before any pair is made; what the cells call new occurs in no
training pair, and what they don't call new occurs in one.
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
    consistent,
    kind_of,
    weights_of,
)
from orchestra_ray.data.preferences.load import Cell, Pair
from orchestra_ray.data.preferences.name_leaks import named_in
from orchestra_ray.data.preferences.templates import Bank, Wording, all_templates, wordings

T = TypeVar("T")
HELDOUT_SHARE = 0.1  # of the pairs, to each cell that is held out
NEW_TEMPLATES = 1 / 3  # of each bank
NEW_VECTORS = 0.25  # of the weights that can be wished for
FEWEST = 10  # pairs, for each cell to have one


@dataclass(frozen=True, slots=True)
class Said:
    """Wishes and one way to say them."""

    intents: Intents
    wording: Wording


def generate(catalogue: Catalogue, aliases: bool, seed: int, count: int) -> list[Pair]:
    """`count` pairs, the training ones first; `ConfigError` where there are not so many."""
    if count < FEWEST:
        raise ConfigError(f"--count {count}: four cells need {FEWEST} pairs; raise it")
    maker = _Maker(catalogue, aliases, seed)
    heldout = round(HELDOUT_SHARE * count)
    dealt = {Cell.TRAIN: maker.train(count - heldout * (len(Cell) - 1))}
    dealt |= {cell: maker.heldout(cell, heldout) for cell in Cell if cell is not Cell.TRAIN}
    cells = [(cell, said) for cell, many in dealt.items() for said in many]
    return [_pair(number, said, cell) for number, (cell, said) in enumerate(cells)]


class _Maker:
    """The two halves of templates and weights, and what the training pairs took of theirs."""

    def __init__(self, catalogue: Catalogue, aliases: bool, seed: int):
        self._catalogue, self._aliases, self._seed = catalogue, aliases, seed
        self._old_bank, self._new_bank = split_bank(all_templates(), seed)
        intended = all_intents(catalogue, aliases)
        new = new_vectors(intended, seed)
        self._old = [intents for intents in intended if weights_of(intents) not in new]
        self._new = [intents for intents in intended if weights_of(intents) in new]
        self._templates: set[str] = set()
        self._vectors: set[Weights] = set()

    def train(self, count: int) -> list[Said]:
        found = self._take(Cell.TRAIN, self._old, self._old_bank, count)
        self._templates = {name for said in found for name in said.wording.templates}
        self._vectors = {weights_of(said.intents) for said in found}
        return found

    def heldout(self, cell: Cell, count: int) -> list[Said]:
        met = [intents for intents in self._old if weights_of(intents) in self._vectors]
        intended = met if cell is Cell.NEW_WORDING else self._new
        if cell is Cell.NEW_VECTOR:
            return self._take(cell, intended, _only(self._old_bank, self._templates), count)
        return self._take(cell, intended, self._new_bank, count)

    def _take(self, cell: Cell, intended: Sequence[Intents], bank: Bank, count: int) -> list[Said]:
        dealt = deal(intended, bank, derive_seed(self._seed, cell.value))
        found = list(islice((said for said in dealt if self._may_be_said(said)), count))
        if len(found) < count:
            problem = f"--count: {len(found)} of {count} pairs are there for {cell.value}"
            raise ConfigError(f"{problem}; lower it, or offer more models and tools")
        return found

    def _may_be_said(self, said: Said) -> bool:
        if not self._aliases:
            return True
        return named_in(said.wording.instruction, self._catalogue) is None


def deal(intended: Sequence[Intents], bank: Bank, seed: int) -> Iterator[Said]:
    """Everything that can be said, once each: kinds of user in turn, and wishes within each."""
    by_kind: dict[str, list[Intents]] = {}
    for intents in _shuffled(intended, seed, "wishes"):
        by_kind.setdefault(kind_of(intents), []).append(intents)

    def ways(kind: str, number: int, intents: Intents) -> Iterator[Said]:
        for wording in _shuffled(wordings(intents, bank), seed, kind, number):
            yield Said(intents, wording)

    return _in_turn(
        _in_turn(ways(kind, n, intents) for n, intents in enumerate(own))
        for kind, own in sorted(by_kind.items())
    )


def split_bank(bank: Bank, seed: int) -> tuple[Bank, Bank]:
    """(to train with, to hold out): each bank's templates divided, so that each half says all."""
    old, new = {}, {}
    for key, templates in bank.items():
        shuffled = _shuffled(templates, seed, *(str(part) for part in key))
        held = round(NEW_TEMPLATES * len(shuffled))
        new[key], old[key] = shuffled[:held], shuffled[held:]
    return old, new


def new_vectors(intended: Iterable[Intents], seed: int) -> set[Weights]:
    """A share of each kind's weights, for no training pair to have."""
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


def _pair(number: int, said: Said, cell: Cell) -> Pair:
    weights, kind = weights_of(said.intents), kind_of(said.intents)
    assert consistent(said.intents, weights), said
    preference = weights.preference(f"{kind}-{number}", said.wording.instruction)
    return Pair(preference, cell, kind, said.wording.templates)


def _only(bank: Bank, names: set[str]) -> Bank:
    return {
        key: [template for template in templates if template.name in names]
        for key, templates in bank.items()
    }


def _in_turn(many: Iterable[Iterator[T]]) -> Iterator[T]:
    """One of each in turn, until all of them are at their end."""
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


def count_by(pairs: Sequence[Pair]) -> Mapping[str, Mapping[Cell, int]]:
    """Pairs by kind of user and cell."""
    counts: dict[str, dict[Cell, int]] = {}
    for pair in pairs:
        row = counts.setdefault(pair.kind, dict.fromkeys(Cell, 0))
        row[pair.cell] += 1
    return counts
