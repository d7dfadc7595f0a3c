"""The split of pairs that a model wrote: every instruction is a wording of its own.

So the cell of new weights in known words has none. Weights are new as a whole: all ways to say them
are held out together.
"""

import random

from orchestra_ray.core.seeds import derive_seed
from orchestra_ray.data.preferences.intents import Weights
from orchestra_ray.data.preferences.llm_written import LlmWritten, Proposal
from orchestra_ray.data.preferences.load import Cell, Pair

KIND = "written"
NEW_VECTORS = 0.2  # of the weights
NEW_WORDINGS = 0.2  # of the ways to say weights that are trained on


def split(written: LlmWritten, seed: int) -> list[Pair]:
    """All that was kept, the training ones first; of weights said once, none is held out alone."""
    ways: dict[Weights, list[Proposal]] = {}
    for proposal in written.kept:
        ways.setdefault(proposal.weights, []).append(proposal)
    vectors = list(ways)
    random.Random(derive_seed(seed, "vectors")).shuffle(vectors)
    new = set(vectors[: round(NEW_VECTORS * len(vectors))])
    by_cell: dict[Cell, list[Proposal]] = {cell: [] for cell in Cell}
    for vector, own in ways.items():
        if vector in new:
            by_cell[Cell.NEW_BOTH] += own
        else:
            held = round(NEW_WORDINGS * len(own))
            by_cell[Cell.NEW_WORDING] += own[:held]
            by_cell[Cell.TRAIN] += own[held:]
    placed = [(cell, proposal) for cell, many in by_cell.items() for proposal in many]
    return [_pair(number, proposal, cell) for number, (cell, proposal) in enumerate(placed)]


def _pair(number: int, proposal: Proposal, cell: Cell) -> Pair:
    name = f"{KIND}-{number}"
    return Pair(proposal.weights.preference(name, proposal.instruction), cell, KIND, (name,))
