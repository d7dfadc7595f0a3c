"""From the episodes of a step to what the learner is given: a line for every training sequence.

Where the advantage estimator whitens over the batch, it happens here: the driver alone sees the
whole batch, and it sees advantages, not tokens.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from orchestra_ray.driver.filters import TrainableEpisode
from orchestra_ray.workers.learner.parts import TrainingSequence
from orchestra_ray.workers.reward.advantage import batch_advantages
from orchestra_ray.workers.reward.settings import RewardSettings


def training_sequences(
    chosen: Sequence[TrainableEpisode], settings: RewardSettings
) -> list[TrainingSequence]:
    """In the order of the episodes.

    The batch's statistics are over the response tokens of the sequences that are trained, those of
    a sequence spread evenly over its turns.
    """
    raw_N = np.array([a for episode in chosen for a in episode.advantages])
    tokens_N = np.array([tokens for episode in chosen for tokens in _turn_tokens(episode)])
    whitened = iter(batch_advantages(raw_N, settings.advantage, settings.clip, tokens_N).tolist())
    return [
        sequence
        for episode in chosen
        for sequence in _sequences(episode, [next(whitened) for _ in episode.advantages])
    ]


def dropped_sequences(chosen: Sequence[TrainableEpisode]) -> Mapping[str, float]:
    """How many sequences of trained episodes are out of format and not trained, and their tokens.

    Of a transcript there are none: it is one sequence.
    """
    dropped = [
        part
        for episode in chosen
        for n, part in enumerate(episode.rollout.summary.parts)
        if n not in episode.parts
    ]
    return {
        "dropped/sequences": len(dropped),
        "dropped/sequence_tokens": sum(part.response_tokens for part in dropped),
    }


def _turn_tokens(episode: TrainableEpisode) -> Iterator[float]:
    """Response tokens of each turn: a sequence's, over its turns; 0 where it is not trained."""
    for n, part in enumerate(episode.rollout.summary.parts):
        tokens = part.response_tokens / part.turns if n in episode.parts else 0.0
        yield from [tokens] * part.turns


def _sequences(
    episode: TrainableEpisode, advantages: Sequence[float]
) -> Iterator[TrainingSequence]:
    parts = episode.rollout.summary.parts
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
