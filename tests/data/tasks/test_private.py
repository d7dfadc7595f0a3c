"""Redaction of failures on private tasks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.process_log import LogTail
from orchestra_ray.core.records import Task
from orchestra_ray.data.tasks.private import PRIVATE, redact_private

SECRET = Task("hle/1", "hle", "What is the question?", {PRIVATE: True})
OPEN = Task("gsm/1", "gsm", "What is the question?", {})


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("KeyError: 'What'", "reward: KeyError"),
        ("hle/1: sympy.SympifyError: What", "reward: sympy.SympifyError"),
        ("cannot read What is the question?", "reward"),
        ("the question says ValueError: no", "reward"),
    ],
)
def test_a_private_failure_keeps_its_kind_the_class_of_its_error_and_its_log(
    message: str, kept: str
) -> None:
    log = LogTail("/logs/x.err", ("What is the question?",), "ValueError: What")
    failure = Failure(FailureKind.REWARD, "scorer", message, True, log)
    assert redact_private(failure, OPEN) is failure
    without = redact_private(failure, SECRET)
    assert (without.message, without.permanent) == (kept, True)
    assert without.log == LogTail("/logs/x.err", (), "ValueError")


@given(st.text())
def test_words_are_left_out_whatever_they_are(words: str) -> None:
    failure = Failure(FailureKind.TOOL, "x", f"TypeError: {words}")
    assert redact_private(failure, SECRET).message == "tool: TypeError"
