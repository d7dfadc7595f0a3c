"""Tasks from files: every format, the split, the reported mistakes, and what stays private."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.config import Config, load
from orchestra_ray.config.schema import TasksConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.records import Preference, Task
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.tasks.files import FileTasks, mistakes, open_files
from orchestra_ray.data.tasks.formats import Problem
from orchestra_ray.data.tasks.private import is_private
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.data.tasks.source import check_sizes, sources

DATA = Path(__file__).parents[2] / "samples"
SHARED = Path(__file__).parents[4] / "shared" / "data"
PREFERENCES = [Preference("p", "Be right.", 1.0, 0.0, 0.0)]


def config(source: str, file: str | Path, **changes: Any) -> TasksConfig:
    path = file if isinstance(file, Path) else DATA / file
    return TasksConfig(source=source, path=str(path), heldout_share=0.0, **changes)


def tasks(config: TasksConfig) -> list[Task]:
    """All of them, the training tasks first."""
    return [source.make(0, i) for source in sources(config) for i in range(source.size)]


def written(folder: Path, *rows: Any, name: str = "tasks.jsonl") -> Path:
    path = folder / name
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def row(n: int, **changes: Any) -> dict[str, Any]:
    return {"id": f"row {n}", "question": f"What is {n} + {n}?", "answer": str(2 * n), **changes}


def test_rows_of_question_and_answer() -> None:
    river, total, noble, twice, root = tasks(config("jsonl", "qa.jsonl"))
    assert river.task_id == "jsonl/river" and river.family == "geography"
    assert river.question == "Which river runs through Cologne?"
    assert dict(river.payload) == {"answer": "the Rhine", "judge": "exact"}
    assert total.family == "jsonl"
    assert (total.payload["answer"], total.payload["judge"]) == ("42", "number")
    assert noble.question.endswith("gas?\n\nA. oxygen\nB. chlorine\nC. argon\nD. iodine")
    assert noble.payload["judge"] == "choice" and noble.payload["choices"][2] == "argon"
    assert twice.payload["tests"] == "assert twice(3) == 6\nassert twice(-1) == -2"
    assert root.payload["judge"] == "math"


@pytest.mark.parametrize(
    ("source", "file", "first_id", "family", "answer", "judge"),
    [
        ("gsm8k", "gsm8k.jsonl", "gsm8k/1", "gsm8k", "39", "number"),
        ("frames", "frames.jsonl", "frames/wiki____0", "frames", "1931", "frames"),
        ("hle", "hle_invented.jsonl", "hle/invented-1", "hle", "seventeen faces", "hle"),
        ("math", "math.jsonl", "math/1", "prealgebra", r"\frac{1}{2}", "math"),
        (
            "hotpotqa",
            "hotpotqa.json",
            "hotpotqa/h1",
            "hotpotqa_comparison",
            "Lake Dimm",
            "hotpotqa",
        ),
    ],
)
def test_every_format_has_its_own_answer_and_judge(
    source: str, file: str, first_id: str, family: str, answer: str, judge: str
) -> None:
    first, second = tasks(config(source, file))
    assert (first.task_id, first.family) == (first_id, family)
    assert (first.payload["answer"], first.payload["judge"]) == (answer, judge)
    assert second.task_id != first.task_id
    assert json.loads(json.dumps(first.payload)) == first.payload


def test_the_rows_judge_goes_before_the_configurations_and_that_before_the_formats() -> None:
    found = tasks(config("jsonl", "qa.jsonl", judge="paper"))
    assert [t.payload["judge"] for t in found] == ["paper", "number", "paper", "code", "math"]
    assert tasks(config("gsm8k", "gsm8k.jsonl", judge="math"))[0].payload["judge"] == "math"


def test_a_grouped_number_after_the_mark_is_plain() -> None:
    assert tasks(config("gsm8k", "gsm8k.jsonl"))[1].payload["answer"] == "2500"


def test_a_json_list_and_parquet_hold_the_same_tasks_as_lines(tmp_path: Path) -> None:
    rows = [row(n) for n in range(3)]
    lines = written(tmp_path, *rows)
    listed = tmp_path / "tasks.json"
    listed.write_text(json.dumps(rows, indent=1))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "tasks.parquet")
    found = [tasks(config("jsonl", p)) for p in (lines, listed, tmp_path / "tasks.parquet")]
    assert found[0] == found[1] == found[2] and len(found[0]) == 3


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"id": "a", "question": "Q?"}, "no `answer`; give it"),
        ({"id": "a", "question": "Q?", "anwser": "x"}, "rename `anwser`?"),
        ({"id": "a", "question": "  ", "answer": "x"}, "`question` is empty; fill it"),
        ({"id": "a", "question": ["Q"], "answer": "x"}, "`question` is a list; write text"),
        (row(1, judge="oracle"), "`judge` is unknown; choose from exact, number"),
        (row(1, judges="exact"), "`judges` is not a key of a task; did you mean `judge`?"),
        (row(1, judge="code"), "no tests, which the judge code runs"),
        (row(1, choices=["2"]), "not a list of 2 to 26 texts"),
        (row(1, choices=["3", "4"]), "`answer` is not a choice"),
        (row(0), "its id is also in line 1"),
        ("{'id': 1}", "it is not JSON: "),
        ("[1]", "it is not a JSON object; write {...}"),
        ("7", "it is not a JSON object; write {...}"),
    ],
)
def test_a_mistake_is_reported_in_one_line_with_its_place(
    tmp_path: Path, bad: Any, message: str
) -> None:
    path = written(tmp_path, row(0), "", bad)
    with pytest.raises(ConfigError) as error:
        open_files(config("jsonl", path))
    assert str(error.value).startswith(f"{path}:3: ") and message in str(error.value)
    assert "\n" not in str(error.value) and "; " in str(error.value)


@pytest.mark.parametrize(
    ("source", "bad", "message"),
    [
        ("gsm8k", {"question": "Q?", "answer": "12"}, "no number after ####"),
        ("gsm8k", {"question": "Q?", "answer": "#### none"}, "no number after ####"),
        ("math", {"problem": "P", "solution": "It is 3."}, "no \\boxed{} in `solution`"),
        ("math", {"question": "P", "solution": "\\boxed{3}"}, "no `problem`"),
        ("frames", {"question": "Q?"}, "no `answer`"),
        ("hle", {"question": "Q?", "answer": "x"}, "no `id`"),
    ],
)
def test_every_format_tells_what_it_misses(
    tmp_path: Path, source: str, bad: Any, message: str
) -> None:
    path = written(tmp_path, bad)
    assert [message in line for line in mistakes(config(source, path), str(path))] == [True]


def test_all_mistakes_of_a_file_are_told(tmp_path: Path) -> None:
    path = written(tmp_path, {"id": "a"}, row(1), "{", {"id": "b"})
    lines = mistakes(config("jsonl", path), str(path))
    assert [line.removeprefix(f"{path}:")[0] for line in lines] == ["1", "3", "4"]
    with pytest.raises(ConfigError, match=r"\(and 2 more mistakes\)$"):
        open_files(config("jsonl", path))


def test_the_lines_of_a_json_list_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    path.write_text(f'[\n{json.dumps(row(0))},\n\n{{"id": "a"}},\n{json.dumps(row(1))}, oops]')
    lines = mistakes(config("jsonl", path), str(path))
    assert [line.removeprefix(f"{path}:")[0] for line in lines] == ["4", "5"]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"[]"])
def test_a_file_without_tasks_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="no tasks in it; set tasks.path"):
        open_files(config("jsonl", path))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tasks.parquet").write_text("not Parquet")
    (tmp_path / "tasks.jsonl").write_bytes(b"\xff\xfe\x00")
    for name in ("tasks.parquet", "tasks.jsonl", "absent.jsonl"):
        with pytest.raises(ConfigError, match=r"cannot be read \(.+\); set tasks.path"):
            open_files(config("jsonl", tmp_path / name))


@given(
    numbers=st.lists(st.integers(0, 10_000), unique=True, min_size=1, max_size=60),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 3),
)
def test_each_task_is_on_one_side_and_stays_there(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], share: float, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("split")

    def sides(order: list[int]) -> tuple[set[str], set[str]]:
        path = written(folder, *(row(n) for n in order))
        given = TasksConfig("jsonl", path=str(path), heldout_share=share, split_seed=seed)
        train, heldout = open_files(given)
        ids = [{s.make(0, i).task_id for i in range(s.size)} for s in (train, heldout)]
        assert len(ids[0]) == train.size and len(ids[1]) == heldout.size
        return ids[0], ids[1]

    train, heldout = sides(numbers)
    assert not train & heldout and len(train | heldout) == len(numbers)
    assert (train, heldout) == sides(numbers[::-1])
    fewer_train, fewer_heldout = sides(numbers[: 1 + len(numbers) // 2])
    assert fewer_train <= train and fewer_heldout <= heldout
    assert (share > 0 or not heldout) and (share < 1 or not train)


def test_a_question_that_stands_twice_is_never_on_both_sides(tmp_path: Path) -> None:
    twice = [row(n, id=f"{n}/{copy}") for n in range(30) for copy in "ab"]
    path = written(tmp_path, *twice)
    train, heldout = open_files(TasksConfig("jsonl", path=str(path), heldout_share=0.5))
    questions = [{s.make(0, i).question for i in range(s.size)} for s in (train, heldout)]
    assert not questions[0] & questions[1] and all(questions)


def test_a_held_out_file_holds_out_itself_and_nothing_of_the_other(tmp_path: Path) -> None:
    path = written(tmp_path, row(0), row(1))
    apart = written(tmp_path, row(2), name="heldout.jsonl")
    train, heldout = open_files(TasksConfig("jsonl", path=str(path), heldout_path=str(apart)))
    assert (train.size, heldout.size) == (2, 1)
    alone = open_files(TasksConfig("jsonl", heldout_path=str(apart)))
    assert (alone[0].size, alone[1].size) == (0, 1)


def test_a_question_in_both_files_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, row(0), row(1))
    again = row(1, id="other", question="what IS 1  + 1?")
    apart = written(tmp_path, row(2), again, name="heldout.jsonl")
    with pytest.raises(ConfigError, match=r"heldout.jsonl:2: its question is also in .*:2"):
        open_files(TasksConfig("jsonl", path=str(path), heldout_path=str(apart)))


@pytest.mark.parametrize("source", ["frames", "hle"])
def test_a_benchmark_is_held_out_whole(source: str) -> None:
    file = {"frames": "frames.jsonl", "hle": "hle_invented.jsonl"}[source]
    train, heldout = open_files(config(source, file))
    assert (train.size, heldout.size) == (0, 2)


def test_rows_with_images_are_left_out_and_counted() -> None:
    _, heldout = open_files(config("hle", "hle_invented.jsonl"))
    assert heldout.skipped == 1
    assert [heldout.make(0, i).task_id for i in range(2)] == ["hle/invented-1", "hle/invented-3"]


def test_a_benchmarks_canary_and_reasons_go_no_further_than_the_loader() -> None:
    path = DATA / "hle_invented.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    made = repr(tasks(config("hle", path)))
    for secret in {r[key] for r in rows for key in ("canary", "rationale", "raw_subject")}:
        assert secret not in made


def test_private_tasks_are_marked() -> None:
    assert all(map(is_private, tasks(config("hle", "hle_invented.jsonl"))))
    assert all(map(is_private, tasks(config("jsonl", "qa.jsonl", private=True))))
    assert not any(map(is_private, tasks(config("jsonl", "qa.jsonl"))))


def test_a_mistake_in_a_private_file_quotes_none_of_it(tmp_path: Path) -> None:
    secret = "zeta polytope"
    bad = [
        {"id": "a", "question": secret, "answer": [secret], "canary": secret},
        f'{{"id": "b", "question": "{secret}" "answer": 1}}',
        {"id": "c", "question": secret, "answers": secret},
    ]
    path = written(tmp_path, *bad)
    lines = mistakes(config("hle", path), str(path))
    assert len(lines) == 3 and not any(secret in line for line in lines)


@pytest.fixture
def sample(catalogue: Catalogue, quickstart: Config) -> Any:
    def sampled_ids(source: FileTasks, count: int, seed: int = 0) -> list[str]:
        sampler = GroupSampler(source, catalogue, quickstart.catalogue, PREFERENCES, seed)
        return [sampler.group(n, 1).task.task_id for n in range(count)]

    return sampled_ids


def test_each_task_of_a_file_is_sampled_once_per_epoch(sample: Any) -> None:
    problems = [Problem(str(n), f"question {n}", "answer") for n in range(7)]
    source = FileTasks(TasksConfig("jsonl"), problems)
    ids = sample(source, 21)
    assert all(set(Counter(ids[at : at + 7]).values()) == {1} for at in (0, 7, 14))
    assert ids[:7] != ids[7:14]
    assert ids == sample(source, 21) and ids != sample(source, 21, seed=1)


def test_tasks_that_are_not_there_cannot_be_sampled(sample: Any) -> None:
    with pytest.raises(ConfigError, match="there are none to sample"):
        sample(FileTasks(TasksConfig("jsonl"), []), 1)


def test_a_run_that_needs_more_tasks_than_there_are_is_refused(quickstart: Config) -> None:
    frames = replace(quickstart, tasks=config("frames", "frames.jsonl"))
    train, heldout = sources(frames.tasks)
    check_sizes(
        replace(frames, evaluation=replace(frames.evaluation, tasks=2)), train, heldout, False
    )
    with pytest.raises(ConfigError, match="200 of 2 held-out tasks"):
        check_sizes(frames, train, heldout, training=False)
    with pytest.raises(ConfigError, match="no tasks of frames to train on"):
        check_sizes(frames, train, heldout, training=True)


def test_sources_of_generated_tasks_are_those_of_the_seeds(quickstart: Config) -> None:
    train, heldout = sources(quickstart.tasks)
    assert train.endless and heldout.endless
    assert heldout.size == quickstart.tasks.heldout_size
    check_sizes(quickstart, train, heldout, training=True)


def configured(*overrides: str) -> Config:
    return load(["configs/quickstart.yaml"], ["tracking.wandb=disabled", *overrides])


def test_a_path_is_found_from_the_configurations_folder() -> None:
    found = configured("tasks.source=jsonl", "tasks.path=tests/samples/qa.jsonl")
    assert found.tasks.path == str(DATA / "qa.jsonl")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tasks.source=jsonl"], "tasks.path: jsonl reads a file; name it"),
        (["tasks.source=csv"], "tasks.source: 'csv' is unknown; choose from reasoning_gym, jsonl"),
        (["tasks.judge=exact"], "tasks.judge: reasoning_gym generates and grades its tasks"),
        (
            ["tasks.path=tests/samples/qa.jsonl"],
            "tasks.path: reasoning_gym generates and grades its tasks",
        ),
        (["tasks.source=jsonl", "tasks.path=no.jsonl"], "tasks.path: no.jsonl does not exist"),
        (
            ["tasks.source=frames", "tasks.path=tests/samples/frames.jsonl"],
            "judge.model: the judge frames calls a model; name a model of the catalogue",
        ),
        (
            ["tasks.source=jsonl", "tasks.path=tests/samples/qa.jsonl", "tasks.judge=oracle"],
            "tasks.judge: 'oracle' is unknown; choose from exact",
        ),
        (
            [
                "tasks.source=hle",
                "tasks.path=tests/samples/hle_invented.jsonl",
                "judge.model=m",
                "cassette.mode=record",
            ],
            "cassette.mode: record, and the tasks are private; use live",
        ),
        (
            ["tasks.source=jsonl", "tasks.path=tests/samples/qa.jsonl", "tasks.families=[]"],
            "tasks.families: the warm start of model.tiny",
        ),
        (["judge.tries=0"], "judge.tries: 0 is out of range"),
    ],
)
def test_what_a_configuration_cannot_mean_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        configured(*overrides)
    assert message in str(error.value) and "\n" not in str(error.value)


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    return path


@pytest.mark.parametrize(
    ("source", "file", "size"),
    [
        ("gsm8k", "gsm8k_train_2000.jsonl", 2000),
        ("frames", "frames.jsonl", 824),
        ("hotpotqa", "hotpotqa_100.json", 100),
    ],
)
def test_the_real_files_are_read_whole(source: str, file: str, size: int) -> None:
    found = tasks(config(source, shared(file)))
    assert len({task.task_id for task in found}) == len(found) == size
    assert all(task.question and task.payload["answer"] for task in found)
