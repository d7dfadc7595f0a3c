"""Splits the pairs that a model wrote, where every instruction is a phrasing of its own.

The split of new weights in known templates is therefore empty. All phrasings of held-out weights
are held out together.
"""

import random

from orchestra_ray.core.seeds import derive_seed
from orchestra_ray.data.preferences.intents import Weights
from orchestra_ray.data.preferences.llm_written import FilteredProposals, Proposal
from orchestra_ray.data.preferences.load import Pair, Split

KIND = "written"
NEW_VECTORS = 0.2  # of the weight vectors
NEW_WORDINGS = 0.2  # of the phrasings of trained weights


def assign_splits(proposals: FilteredProposals, seed: int) -> list[Pair]:
    """Returns pairs of all kept proposals, training pairs first.

    Weights with a single phrasing are trained or held out as a whole.
    """
    phrasings: dict[Weights, list[Proposal]] = {}
    for proposal in proposals.kept:
        phrasings.setdefault(proposal.weights, []).append(proposal)
    vectors = list(phrasings)
    random.Random(derive_seed(seed, "vectors")).shuffle(vectors)
    new = set(vectors[: round(NEW_VECTORS * len(vectors))])
    by_split: dict[Split, list[Proposal]] = {split: [] for split in Split}
    for vector, own in phrasings.items():
        if vector in new:
            by_split[Split.NEW_BOTH] += own
        else:
            held = round(NEW_WORDINGS * len(own))
            by_split[Split.NEW_WORDING] += own[:held]
            by_split[Split.TRAIN] += own[held:]
    placed = [(split, proposal) for split, many in by_split.items() for proposal in many]
    return [_pair(number, proposal, split) for number, (split, proposal) in enumerate(placed)]


def _pair(number: int, proposal: Proposal, split: Split) -> Pair:
    name = f"{KIND}-{number}"
    return Pair(proposal.weights.preference(name, proposal.instruction), split, KIND, (name,))
