"""Every shipped preset loads over the quick start and changes what it names."""

from pathlib import Path

import pytest

from orchestra_ray.config import load
from orchestra_ray.config.enums import Aggregation, Surrogate
from orchestra_ray.config.learning import LossConfig

CONFIGS = Path(__file__).parents[2] / "configs"
PRESETS = {
    path.stem: load([CONFIGS / "quickstart.yaml", path])
    for path in sorted((CONFIGS / "presets").glob("*.yaml"))
}


def test_the_paper_is_the_default() -> None:
    assert PRESETS["paper"].learner.loss == LossConfig()


def test_presets_differ() -> None:
    assert len(PRESETS) == 10
    settings = [(p.learner.loss, p.learner.minibatches, p.reward) for p in PRESETS.values()]
    assert all(settings.count(each) == 1 for each in settings)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_no_preset_keeps_the_entropy_bonus_of_the_quick_start(name: str) -> None:
    assert load([CONFIGS / "quickstart.yaml"]).learner.loss.entropy_coef > 0
    assert PRESETS[name].learner.loss.entropy_coef == 0


@pytest.mark.parametrize("name", ["dr_grpo", "rloo"])
def test_the_fixed_length_is_that_of_the_run(name: str) -> None:
    config = PRESETS[name]
    assert config.learner.loss.aggregation is Aggregation.CONSTANT
    assert config.learner.loss.constant_tokens == config.rollout.max_response_tokens


def test_released_is_what_the_code_sets() -> None:
    loss = PRESETS["released"].learner.loss
    assert (loss.clip_low, loss.clip_high, loss.dual_clip) == (0.2, 0.28, 10.0)
    assert (loss.kl_coef, loss.kl_estimator, loss.aggregation) == (1e-4, "k2", "token")


def test_surrogates_have_several_steps_a_batch_where_they_need_them() -> None:
    for name in ("gspo", "cispo"):
        assert PRESETS[name].learner.loss.surrogate is Surrogate(name)
        assert PRESETS[name].learner.minibatches > 1
