"""The runs of the study: failures with their reasons, and valid configurations."""

import sys
from pathlib import Path

from orchestra_ray.config import load
from orchestra_ray.data.preferences.load import load_heldout_preferences

from .synthetic_study import ARMS, USERS, study, study_page


def test_a_run_that_fails_leaves_the_reason_and_the_study_goes_on(tmp_path: Path):
    problem = study.make(ARMS["ours"], 0, tmp_path, ["no.such.key=1"])
    assert problem is not None and "no.such.key" in problem
    assert (tmp_path / "ours-0" / study_page.FAILED).read_text() == problem + "\n"
    problem = study.make(ARMS["unseen_prices"], 0, tmp_path, [])
    assert problem == "ours-0 left no policy to evaluate"
    failed = study_page.Study(tmp_path, study.planned([0]), [0])
    assert failed.why_failed("unseen_prices", 0) == problem


def test_the_last_line_of_stderr_says_why(tmp_path: Path):
    def ran(code: str) -> str | None:
        return study.failure([sys.executable, "-c", code], tmp_path / "stderr")

    assert ran("import sys; print('first\\nlast\\n', file=sys.stderr); sys.exit(1)") == "last"
    assert ran("import sys; sys.exit(3)") == "exit code 3"
    assert ran("import sys; print('a warning', file=sys.stderr)") is None


def test_every_run_of_the_study_is_a_valid_configuration(tmp_path: Path):
    experts, users = {}, {}
    for arm in study.ARMS:
        paths = [*study.BASE, *arm.configs]
        config = load(paths, [f"name={arm.name}", f"runs_dir={tmp_path}", *arm.keys])
        measured = load_heldout_preferences(config.catalogue, config.evaluation.preferences)
        users[arm.name] = tuple(one.name for one in measured)
        experts[arm.name] = [n for n in config.evaluation.baselines if n.startswith("expert:")]
    assert len(experts.pop("ours")) == 6
    assert not any(experts.values())
    assert set(users["ours"]) == set(USERS)
    assert [users[f"{arm}_{u}"] for arm in ("ours", "no_preference") for u in USERS] == [
        (user,) for user in USERS * 2
    ]
