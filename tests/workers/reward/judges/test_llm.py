"""The LLM judge against a real endpoint: verdicts, retries, what it costs, what is kept."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.config.enums import CassetteMode
from orchestra_ray.config.schema import CassetteConfig, JudgeConfig, TasksConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import Task
from orchestra_ray.data.catalogue import Catalogue, Entry, Kind
from orchestra_ray.data.tasks.files import open_files
from orchestra_ray.spend.budget import SpendLimits
from orchestra_ray.spend.ledger import read
from orchestra_ray.workers.reward.judges.llm import judge_entry
from orchestra_ray.workers.reward.judges.registry import GraderInputs, GraderRegistry
from orchestra_ray.workers.reward.judges.rules import AGAIN
from orchestra_ray.workers.reward.judges.verdicts import FILE, Verdicts

YES, NO = "<correct>True</correct>", "<correct>False</correct>"
TASK = Task("qa/1", "qa", "Who painted it?", {"answer": "Ida Mestrova", "judge": "paper"})


def by_answer(prompt: str, number: int) -> str:
    """Replies that an answer is right if it contains Ida."""
    return YES if "]\nIda M." in prompt else NO


def judging(catalogue: Catalogue, **changes: Any) -> GraderInputs:
    return GraderInputs(config=JudgeConfig(model="grader"), catalogue=catalogue, **changes)


async def judged(graders: GraderRegistry, *groups: Any) -> list[Any]:
    """The outcome of each group, one after the other."""
    try:
        return [await graders.verdicts(*group) for group in groups]
    finally:
        await graders.close()


@pytest.fixture
def run(
    serving: Callable[..., Any], judging_catalogue: Callable[..., Catalogue], local_spend: Any
) -> Callable[..., Any]:
    """Grades groups with an endpoint of this reply; returns (outcomes, endpoint, spend)."""

    def run(reply: Callable[[str, int], str | None], *groups: Any, **changes: Any) -> Any:
        async def play() -> Any:
            limits = changes.pop("limits", {})
            spend = changes.pop("spend", None) or local_spend()
            async with serving(reply) as endpoint:
                endpoint.pause_s = changes.pop("pause_s", 0.0)
                catalogue = judging_catalogue(endpoint.url, **limits)
                outcomes = await judged(
                    GraderRegistry(judging(catalogue, **changes), spend), *groups
                )
            return outcomes, endpoint, spend

        return asyncio.run(play())

    return run


def test_the_model_decides_what_the_rule_does_not(run: Any, make_group: Any) -> None:
    answers = ["ida mestrova", "Ida M.", "Anselm Quorrel", "", None, "word " * 501]
    ([verdicts], endpoint, _) = run(by_answer, make_group(TASK, *answers))
    assert [v.correct for v in verdicts] == [True, True, False, False, False, False]
    assert len(endpoint.bodies) == 2
    assert {body["temperature"] for body in endpoint.bodies} == {0.0}
    assert {body["model"] for body in endpoint.bodies} == {"judging-model"}


def test_one_answer_is_asked_about_once(run: Any, make_group: Any) -> None:
    """Those of one group together, and those of a later group too."""
    first = make_group(TASK, "Ida M.", "Ida M.", "Bo", name="one")
    second = make_group(TASK, "Bo", "Ida M.", name="two")
    (one, two), endpoint, spend = run(by_answer, first, second, pause_s=0.05)
    assert [v.correct for v in one] == [True, True, False]
    assert [v.correct for v in two] == [False, True]
    assert len(endpoint.bodies) == 2
    assert [v.entry is not None for v in (*one, *two)] == [True, False, True, False, False]
    assert spend.ledger.by_identity["judge"].calls == 2


def test_another_question_reference_or_rule_is_asked_about_anew(run: Any, make_group: Any) -> None:
    other = [
        TASK,
        replace(TASK, question="Who wrote it?"),
        replace(TASK, payload={**TASK.payload, "answer": "Ida"}),
        replace(TASK, payload={**TASK.payload, "judge": "llm"}),
    ]
    _, endpoint, _ = run(by_answer, *(make_group(task, "Ida M.") for task in other))
    assert len(endpoint.bodies) == len(set(endpoint.prompts)) == 4


def test_verdicts_outlive_the_process_and_quote_nothing(
    run: Any, make_group: Any, tmp_path: Path
) -> None:
    group = make_group(TASK, "Ida M.", "Bo")
    run(by_answer, group, folder=str(tmp_path))
    with (tmp_path / FILE).open("a") as file:
        file.write("0123 torn\n4567")
    written = (tmp_path / FILE).read_text()
    ([verdicts], endpoint, _) = run(by_answer, group, folder=str(tmp_path))
    # The endpoint's place is no part of what is judged.
    assert [v.correct for v in verdicts] == [True, False] and not endpoint.bodies
    assert "Ida" not in written and "painted" not in written
    assert len(Verdicts(str(tmp_path))) == 2


def test_a_disk_that_refuses_leaves_verdicts_in_memory(tmp_path: Path) -> None:
    kept = Verdicts(str(tmp_path / "absent"))
    kept.put("key", True)
    kept.put("other", False)
    assert (kept.get("key"), kept.get("other"), kept.get("third")) == (True, False, None)


def test_a_verdict_that_cannot_be_read_is_asked_for_again(run: Any, make_group: Any) -> None:
    def reply(prompt: str, number: int) -> str:
        return YES if number == 2 else "I think so."

    ([verdicts], endpoint, spend) = run(reply, make_group(TASK, "Ida M."))
    assert [v.correct for v in verdicts] == [True]
    assert [AGAIN in prompt for prompt in endpoint.prompts] == [False, True, True]
    assert spend.ledger.by_identity["judge"].charged_nanousd == 3_000


def test_verdicts_that_are_never_read_fail_the_group_and_call_no_answer_wrong(
    run: Any, make_group: Any
) -> None:
    outcomes, endpoint, spend = run(lambda *_: f"{YES} or {NO}", make_group(TASK, "Ida M.", "Bo"))
    [failure] = outcomes
    assert isinstance(failure, Failure) and failure.kind is FailureKind.REWARD
    assert failure.where == "judge paper"
    assert failure.message.startswith("qa/1: no readable verdict in 3 replies: '<correct>True")
    assert len(endpoint.bodies) == 6
    assert spend.ledger.by_identity["judge"].charged_nanousd == 6_000


def test_an_endpoint_that_fails_is_tried_again_and_then_fails_the_group(
    run: Any, make_group: Any
) -> None:
    group, limits = make_group(TASK, "Ida M."), {"retries": 1}
    outcomes, endpoint, _ = run(lambda *_: None, group, limits=limits)
    [failure] = outcomes
    assert isinstance(failure, Failure) and "no reply (server_error)" in failure.message
    assert len(endpoint.bodies) == 2
    once = [None, YES]
    ([verdicts], _, _) = run(lambda _, number: once[number], group, limits=limits)
    assert [v.correct for v in verdicts] == [True]


def test_a_failure_is_not_kept_for_a_verdict(run: Any, make_group: Any) -> None:
    replies = ["?", "?", "?", YES]
    groups = [make_group(TASK, "Ida M.", name=name) for name in ("one", "two")]
    (failure, verdicts), _, _ = run(lambda _, number: replies[number], *groups)
    assert isinstance(failure, Failure) and [v.correct for v in verdicts] == [True]


def test_a_group_that_waits_too_long_fails_and_its_verdicts_come_for_the_next(
    run: Any, make_group: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = [make_group(TASK, "Ida M.", name=f"g{n}") for n in range(40)]
    outcomes, endpoint, _ = run(by_answer, *groups, pause_s=0.5, deadline_s=0.1)
    assert isinstance(outcomes[0], Failure)
    assert outcomes[0].message == "qa/1: no verdicts within 0.1 s"
    assert isinstance(outcomes[-1], list) and len(endpoint.bodies) == 1


def test_what_judges_cost_stands_apart_in_the_ledger(
    run: Any, make_group: Any, local_spend: Any, tmp_path: Path
) -> None:
    spend = local_spend(SpendLimits(run_nanousd=10_000))
    spend.ledger.folder = tmp_path
    ([verdicts], _, _) = run(by_answer, make_group(TASK, "Ida M.", "Bo"), spend=spend)
    closed = spend.accounts.close_step(3)
    assert not closed.failures and closed.totals["ledger/charged_usd/judge"] == 2e-6
    rows = read(tmp_path).to_pylist()
    assert {(r["identity"], r["kind"], r["step"], r["group"]) for r in rows} == {
        ("judge", "judge", 3, "g")
    }
    assert {r["episode"] for r in rows} == {"g/0/judge", "g/1/judge"}
    assert sum(r["charged_nanousd"] for r in rows) == 2_000 == spend.budget.committed_nanousd
    assert [v.entry.charged_nanousd for v in verdicts] == [1_000, 1_000]


def test_a_budget_that_is_spent_fails_the_group(
    run: Any, make_group: Any, local_spend: Any
) -> None:
    spend = local_spend(SpendLimits(run_nanousd=1_500))
    outcomes, endpoint, _ = run(by_answer, make_group(TASK, "Ida M.", "Bo"), spend=spend)
    [failure] = outcomes
    assert isinstance(failure, Failure) and "budget exhausted" in failure.message
    assert len(endpoint.bodies) == 1 and spend.budget.run_refused


def test_a_recording_plays_the_same_verdicts_without_a_call(
    run: Any, make_group: Any, tmp_path: Path
) -> None:
    path = str(tmp_path / "cassette.sqlite")
    group = make_group(TASK, "Ida M.", "Bo")
    run(by_answer, group, cassette=CassetteConfig(CassetteMode.RECORD, path))
    played = CassetteConfig(CassetteMode.REPLAY_OR_FAIL, path)
    ([verdicts], endpoint, spend) = run(lambda *_: "silence", group, cassette=played)
    assert [v.correct for v in verdicts] == [True, False] and not endpoint.bodies
    assert spend.ledger.by_identity["judge"].saved_nanousd == 2_000
    [failure], _, _ = run(by_answer, make_group(TASK, "Cleo"), cassette=played)
    assert isinstance(failure, Failure) and "no call of judge" in failure.message


def test_no_file_holds_a_word_of_a_private_task(
    run: Any, make_group: Any, local_spend: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ledger, verdicts, log and failures of judging; a reply repeats what it can."""
    data = Path(__file__).parents[3] / "samples" / "hle_invented.jsonl"
    _, heldout = open_files(TasksConfig("hle", path=str(data)))
    task = heldout.make(0, 0)
    for last_line in ("correct: yes", "no verdict"):
        spend = local_spend()
        spend.ledger.folder = tmp_path / "ledger"
        group = make_group(task, f"seventeen of Grendel, {last_line}", name=last_line)

        def reply(prompt: str, number: int, last_line: str = last_line) -> str:
            return f"{task.question}\n{task.payload['answer']}\n{last_line}"

        [outcome], endpoint, _ = run(reply, group, spend=spend, folder=str(tmp_path))
        assert task.question in endpoint.prompts[0]
        spend.accounts.close_step(3)
        told = f"{outcome} {caplog.text}" if isinstance(outcome, Failure) else caplog.text
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        held = b" ".join(path.read_bytes() for path in files) + told.encode()
        for word in (b"polytope", b"Grendel", b"seventeen", b"CANARY"):
            assert word not in held
    assert len(files) >= 3 and isinstance(outcome, Failure)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (None, "judge.model: a task needs an LLM judge; name a model of the catalogue"),
        ("nobody", "judge.model: nobody is no model behind an endpoint; choose from: grader"),
        ("sim", "judge.model: sim is no model behind an endpoint; choose from: grader"),
    ],
)
def test_a_judge_that_is_no_endpoint_is_refused(
    judging_catalogue: Callable[..., Catalogue], model: str | None, told: str
) -> None:
    catalogue = judging_catalogue("http://127.0.0.1:1/v1")
    simulated = Entry("sim", Kind.MODEL, "", "simulated", Prices(), 0.0)
    catalogue = replace(catalogue, entries={**catalogue.entries, "sim": simulated})
    with pytest.raises(ConfigError, match=told):
        judge_entry(catalogue, JudgeConfig(model=model))


def test_a_server_may_keep_its_own_temperature(
    judging_catalogue: Callable[..., Catalogue],
) -> None:
    catalogue = judging_catalogue("http://127.0.0.1:1/v1")
    warm = judge_entry(catalogue, JudgeConfig(model="grader", temperature=None))
    assert warm.settings["temperature"] is None and warm.name == "judge"
