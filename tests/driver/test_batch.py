"""Training sequences of the episodes of a step."""

import math
from dataclasses import replace

import pytest

from orchestra_ray.core.records import EpisodeSummary, Part
from orchestra_ray.core.states import Stop
from orchestra_ray.driver.batch import dropped_sequences, training_sequences
from orchestra_ray.driver.filters import Rollout, TrainableEpisode
from orchestra_ray.workers.reward.settings import RewardSettings

SUMMARY = EpisodeSummary("", "g", Stop.ANSWERED, None, True, 90, 22, 3, 3, 9, 9, 0, 0.0, 0.0, 0.0)
ONE = replace(SUMMARY, episode_id="one", parts=(Part(90, 22, 3, True),))
REBUILT = replace(
    SUMMARY,
    episode_id="rebuilt",
    parts=(Part(30, 10, 1, True), Part(30, 5, 1, False), Part(30, 7, 1, True)),
)


def test_a_transcript_is_one_sequence_with_an_advantage_a_turn() -> None:
    trainable = TrainableEpisode(Rollout(ONE, "ref"), (1.0, 0.5, 0.5), (0,))
    (sequence,) = training_sequences([trainable], RewardSettings())
    assert (sequence.ref, sequence.part, sequence.advantages) == ("ref", 0, (1.0, 0.5, 0.5))
    assert (sequence.tokens, sequence.episode_tokens) == (90, 22)


def test_rebuilt_turns_are_sequences_that_know_their_episode() -> None:
    trainable = TrainableEpisode(Rollout(REBUILT, "ref"), (1.0, 2.0, 3.0), (0, 2))
    sequences = training_sequences([trainable], RewardSettings())
    assert [(s.part, s.advantages) for s in sequences] == [(0, (1.0,)), (2, (3.0,))]
    assert {s.episode_tokens for s in sequences} == {17}


def test_sequences_that_are_not_trained_are_counted_with_their_tokens() -> None:
    whole = TrainableEpisode(Rollout(ONE, "ref"), (1.0, 1.0, 1.0), (0,))
    rebuilt = TrainableEpisode(Rollout(REBUILT, "ref"), (1.0, 2.0, 3.0), (0, 2))
    counts = dropped_sequences([whole, rebuilt])
    assert counts == {"dropped/sequences": 1, "dropped/sequence_tokens": 5}


@pytest.mark.parametrize("estimator", ["gdpo", "reinforce_pp"])
def test_an_estimator_that_whitens_does_so_over_the_whole_batch(estimator: str) -> None:
    settings = RewardSettings(combination="gdpo", advantage=estimator)
    values = [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (5.0, 5.0, 5.0)]
    trainable = [TrainableEpisode(Rollout(ONE, n), v, (0,)) for n, v in enumerate(values)]
    whitened = [a for s in training_sequences(trainable, settings) for a in s.advantages]
    assert math.isclose(sum(whitened), 0.0, abs_tol=1e-9)
    tokens = ONE.parts[0].response_tokens / ONE.parts[0].turns  # of each turn
    squares = sum(tokens * a * a for a in whitened)
    assert math.isclose(squares / (tokens * len(whitened) - 1), 1.0, rel_tol=1e-4)
