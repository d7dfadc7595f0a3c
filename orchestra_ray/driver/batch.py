"""Turns the trainable episodes of a step into the training sequences for the learner.

Whitening over the batch, if the advantage estimator uses it, is done here: only the driver sees the
whole batch. It handles advantages and references to tokens, never the tokens.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from orchestra_ray.driver.filters import TrainableEpisode
from orchestra_ray.workers.learner.parts import TrainingSequence
from orchestra_ray.workers.reward.advantage import batch_advantages
from orchestra_ray.workers.reward.settings import RewardSettings


def training_sequences(
    episodes: Sequence[TrainableEpisode], settings: RewardSettings
) -> list[TrainingSequence]:
    """Returns the sequences in the order of the episodes.

    Statistics of the batch are over the response tokens of the trained sequences, where the tokens
    of a sequence are divided evenly among its turns.
    """
    raw_N = np.array([a for episode in episodes for a in episode.advantages])
    tokens_N = np.array([tokens for episode in episodes for tokens in _turn_tokens(episode)])
    whitened = iter(batch_advantages(raw_N, settings.advantage, settings.clip, tokens_N).tolist())
    return [
        sequence
        for episode in episodes
        for sequence in _sequences(episode, [next(whitened) for _ in episode.advantages])
    ]


def dropped_sequences(episodes: Sequence[TrainableEpisode]) -> Mapping[str, float]:
    """Returns metrics of the sequences of trained episodes that broke the format and are dropped.

    A transcript has none, since it is a single sequence.
    """
    dropped = [
        part
        for episode in episodes
        for n, part in enumerate(episode.rollout.summary.parts)
        if n not in episode.parts
    ]
    return {
        "dropped/sequences": len(dropped),
        "dropped/sequence_tokens": sum(part.response_tokens for part in dropped),
    }


def _turn_tokens(episode: TrainableEpisode) -> Iterator[float]:
    """Yields the response tokens per turn of each turn's sequence; 0 if it is not trained."""
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
