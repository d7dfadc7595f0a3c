"""The command that repeats a run."""

import pytest

from orchestra_ray.driver.run_results import reproduce_command


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (
            ["/bin/orchestra", "train", "--config", "a b.yaml"],
            "orchestra train --config 'a b.yaml'",
        ),
        (["/lib/orchestra_ray/cli/main.py", "eval", "name=x"], "orchestra eval name=x"),
        (["jobs/train.py", "--config", "a.yaml"], "python jobs/train.py --config a.yaml"),
    ],
)
def test_the_reproduce_command_is_what_was_run(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], command: str
) -> None:
    monkeypatch.setattr("sys.argv", argv)
    assert reproduce_command() == command
