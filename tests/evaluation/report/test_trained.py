"""The totals of a training, and the warning beside its comparison."""

from typing import Any

import pytest

from orchestra_ray.evaluation.report.page import RunInfo, render_report
from orchestra_ray.evaluation.report.trained import Trained
from orchestra_ray.evaluation.report.training import Metrics

from .test_page import RUN, SUMMARY, Page

STEP: dict[str, Any] = {
    "trained_episodes": 48,
    "episodes_dispatched": 64,
    "trained_sequences": 50,
    "trained_response_tokens": 1000.0,
    "optimizer_steps": 2,
    "groups_kept": 6,
    "groups_dropped": 2,
    "groups_dropped/all_wrong": 2,
    "episodes_failed/tool": 3,
    "grad_norm": 0.5,
    "lr": 5e-3,
}
IDLE: dict[str, Any] = {
    "trained_episodes": 0,
    "episodes_dispatched": 64,
    "groups_kept": 0,
    "groups_dropped": 8,
    "groups_dropped/all_wrong": 8,
}


def trained(*steps: dict[str, Any], tiny: bool = True) -> Trained:
    found = Trained.of(Metrics([{"step": n, **one} for n, one in enumerate(steps, 1)]), tiny)
    assert found is not None
    return found


def test_the_sentence_tells_what_was_trained() -> None:
    totals = trained(STEP, IDLE, STEP | {"lr": 1e-3})
    assert totals.sentence() == (
        "trained 96 of 192 episodes (100 sequences, 2,000 tokens);"
        " 4 optimizer steps at a learning rate of 0.001 to 0.005;"
        " groups dropped: 12 all_wrong; episodes failed: 6 tool"
    )
    assert totals.warning() is None and totals.moved_most == pytest.approx(0.012)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([IDLE] * 3, "Nothing was trained in 3 steps (groups dropped: 24 all_wrong)."),
        ([STEP | {"grad_norm": 0.0}] * 3, "the gradient of every step is zero"),
        ([STEP | {"trained_episodes": 1}] * 3, "Next to nothing was trained: 3 of 192 episodes."),
        ([STEP | {"lr": 1e-6}] * 60, "at a learning rate of 1e-06 move a weight by about 0.0001"),
    ],
)
def test_a_training_of_next_to_nothing_is_told_beside_the_comparison(
    steps: list[dict[str, Any]], said: str
) -> None:
    assert said in (trained(*steps).warning() or "")
    lines = [{"step": n, **one} for n, one in enumerate(steps, 1)]
    info: RunInfo = {**RUN, "tiny": True}
    page = Page(render_report(SUMMARY, lines, info))
    assert sum(said in text for text in page.said("strong")) == 2  # the result's card, and its own
    assert "What was trained" in page.said("h2")


def test_a_pretrained_policy_takes_smaller_steps_than_a_tiny_one() -> None:
    steps = [STEP | {"lr": 1e-6}] * 60
    assert trained(*steps, tiny=False).warning() is None
    assert trained(*steps[:2], tiny=False).warning() is not None


def test_a_page_without_training_says_nothing_of_it() -> None:
    assert Trained.of(Metrics([])) is None
    assert Trained.of(Metrics([{"step": 1, "reward_mean": 0.5}])) is None
    assert "What was trained" not in Page(render_report(SUMMARY, [], RUN)).said("h2")
