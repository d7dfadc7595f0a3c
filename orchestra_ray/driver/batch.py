"""From the episodes of a step to what the learner is given: a line for every training sequence.

Where the advantage estimator whitens over the batch, it happens here: the driver alone sees the
whole batch, and it sees advantages, not tokens.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from orchestra_ray.driver.selection import Chosen
from orchestra_ray.learner.parts import TrainingSequence
from orchestra_ray.reward.advantage import batch_advantages
from orchestra_ray.reward.settings import RewardSettings


def training_sequences(
    chosen: Sequence[Chosen], settings: RewardSettings
) -> list[TrainingSequence]:
    """In the order of the episodes. A turn's advantage counts once in the batch's statistics."""
    raw_N = np.array([a for episode in chosen for a in episode.advantages])
    whitened = iter(batch_advantages(raw_N, settings.advantage, settings.clip).tolist())
    return [
        sequence
        for episode in chosen
        for sequence in _sequences(episode, [next(whitened) for _ in episode.advantages])
    ]


def _sequences(episode: Chosen, advantages: Sequence[float]) -> Iterator[TrainingSequence]:
    parts = episode.rollout.card.parts
    episode_tokens = sum(parts[n].response_tokens for n in episode.parts)
    for n in episode.parts:
        first = sum(part.turns for part in parts[:n])
        yield TrainingSequence(
            ref=episode.rollout.ref,
            part=n,
            advantages=tuple(advantages[first : first + parts[n].turns]),
            tokens=parts[n].tokens,
            episode_tokens=episode_tokens,
        )
