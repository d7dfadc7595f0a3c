"""The ledger's files and totals."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.faults import FailureKind
from orchestra_ray.core.money import Usage
from orchestra_ray.core.records import Caller, LedgerEntry, Reservation, Settlement
from orchestra_ray.spend.accounts import SpendAccounts
from orchestra_ray.spend.budget import SpendBudget, SpendLimits
from orchestra_ray.spend.ledger import FOLDER, SCHEMA, Ledger, read

ENTRY = LedgerEntry(
    call_id="e/0/1",
    caller=Caller(3, "g", "e", 2),
    identity="gpt-5",
    alias="model 1",
    kind="model",
    price_sheet="prices@1",
    usage=Usage(100, 40, 30, 20, 1),
    charged_nanousd=2**62,
    service_s=1.5,
    saved_nanousd=4,
    queue_s=0.25,
    retries=2,
    hedges=1,
    replayed=True,
    error="timeout",
)
entries = st.builds(
    LedgerEntry,
    call_id=st.text(max_size=5),
    caller=st.builds(
        Caller, st.integers(0, 2), st.sampled_from("gh"), st.sampled_from("ef"), st.integers(0, 2)
    ),
    identity=st.sampled_from(["a", "b", "policy"]),
    alias=st.text(max_size=3),
    kind=st.sampled_from(["model", "tool", "policy"]),
    price_sheet=st.just("p"),
    usage=st.builds(Usage, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6)),
    charged_nanousd=st.integers(0, 10**15),
    service_s=st.floats(0, 100),
    error=st.none() | st.sampled_from(["timeout", "lost"]),
)


def test_a_row_holds_all_of_an_entry(tmp_path: Path) -> None:
    ledger = Ledger("a run", tmp_path / FOLDER)
    ledger.add([ENTRY])
    assert ledger.flush() is None
    (row,) = read(tmp_path / FOLDER).to_pylist()
    assert list(row) == SCHEMA.names
    assert (row["run"], row["step"], row["group"], row["episode"], row["turn"]) == (
        *("a run", 3, "g"),
        *("e", 2),
    )
    assert (row["call"], row["identity"], row["charged_nanousd"]) == ("e/0/1", "gpt-5", 2**62)
    tokens = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "searches")
    assert [row[name] for name in tokens] == [100, 40, 30, 20, 1]
    for name in ("alias", "saved_nanousd", "queue_s", "service_s", "retries", "hedges", "error"):
        assert row[name] == getattr(ENTRY, name)
    assert row["replayed"] is True and row["cache_hit"] is True


def test_a_cache_hit_is_one_of_the_providers_cache_or_of_ours(tmp_path: Path) -> None:
    of_provider, none = ENTRY, replace(ENTRY, usage=Usage(100), cache_hit=False)
    of_ours = replace(none, cache_hit=True)  # nobody was asked
    assert [e.cache_hit for e in (of_provider, none, of_ours)] == [True, False, True]
    ledger = Ledger("run", tmp_path)
    ledger.add([of_provider, none, of_ours])
    assert ledger.metrics()["ledger/cache_hits"] == 2 and ledger.flush() is None
    assert read(tmp_path)["cache_hit"].to_pylist() == [True, False, True]


@given(st.lists(st.lists(entries, max_size=5), max_size=4))
def test_files_together_hold_every_entry_once_and_the_totals_are_their_sums(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[LedgerEntry]]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    ledger = Ledger("run", folder)
    for batch in batches:
        ledger.add(batch)
        assert ledger.flush() is None
    given_entries = [entry for batch in batches for entry in batch]
    if not given_entries:
        with pytest.raises(FileNotFoundError):
            read(folder)
        return
    rows = read(folder).to_pylist()
    assert len(list(folder.glob("part-*.parquet"))) == sum(bool(batch) for batch in batches)
    assert [row["call"] for row in rows] == [entry.call_id for entry in given_entries]
    for identity, totals in ledger.by_identity.items():
        of_it = [row for row in rows if row["identity"] == identity]
        assert totals.calls == len(of_it)
        assert totals.charged_nanousd == sum(row["charged_nanousd"] for row in of_it)
    faults = [row["error"] for row in rows if row["error"] is not None]
    assert ledger.faults == {kind: faults.count(kind) for kind in set(faults)}
    assert ledger.metrics()["ledger/errors"] == len(faults)


def test_a_run_that_goes_on_adds_files(tmp_path: Path) -> None:
    for _ in range(2):
        ledger = Ledger("run", tmp_path)
        ledger.add([ENTRY])
        ledger.flush()
    names = [path.name for path in sorted(tmp_path.iterdir())]
    assert names == ["part-000001.parquet", "part-000002.parquet"]
    assert read(tmp_path).num_rows == 2


def test_what_a_full_disk_refuses_waits_for_the_next_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = SpendAccounts(SpendBudget(SpendLimits()), Ledger("run", tmp_path))
    accounts.ledger.add([ENTRY])
    write_table: Callable[..., None] = pq.write_table

    def full(rows: object, path: Path, **options: object) -> None:
        path.write_bytes(b"PAR1")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pq, "write_table", full)
    closed = accounts.close_step(1)
    (failure,) = closed.failures
    assert failure.kind is FailureKind.INFRASTRUCTURE and "1 entries are not written" in (
        failure.message
    )
    assert "No space left" in failure.message and failure.where == str(tmp_path)
    assert closed.totals["ledger/unwritten"] == 1 and list(tmp_path.iterdir()) == []

    monkeypatch.setattr(pq, "write_table", write_table)
    accounts.ledger.add([replace(ENTRY, call_id="later", charged_nanousd=1)])
    closed = accounts.close_step(2)
    assert closed.failures == () and closed.totals["ledger/unwritten"] == 0
    assert read(tmp_path)["call"].to_pylist() == ["e/0/1", "later"]


def test_a_folder_that_cannot_be_made_is_a_failure_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ledger = Ledger("run", tmp_path / "file" / FOLDER)
    ledger.add([ENTRY])
    assert ledger.flush() is not None and ledger.metrics()["ledger/unwritten"] == 1


def test_what_an_earlier_process_spent_counts_against_the_runs_limit(tmp_path: Path) -> None:
    folder, paid = tmp_path / FOLDER, replace(ENTRY, charged_nanousd=60, replayed=False)
    first = Ledger("run", folder)
    own = replace(paid, kind="policy", identity="policy", charged_nanousd=1_000)
    replayed = replace(paid, replayed=True, charged_nanousd=0, saved_nanousd=60)
    first.add([paid, replace(paid, call_id="f"), own, replayed])
    assert Ledger("run", folder).spent_before() == (0, 0)
    first.flush()
    assert Ledger("run", folder).spent_before() == (120, 2 * (1 + ENTRY.retries + ENTRY.hedges))
    budget = SpendBudget(SpendLimits(run_nanousd=200))
    budget.go_on_from(*Ledger("run", folder).spent_before())
    assert budget.reserve(Reservation("c#0.1", ENTRY.caller, 80)) is None
    refusal = budget.reserve(Reservation("d#0.1", ENTRY.caller, 1))
    assert refusal is not None and "for the run" in refusal and budget.run_refused


def test_entries_do_not_wait_for_the_end_of_a_long_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = SpendAccounts(SpendBudget(SpendLimits()), Ledger("run", tmp_path / FOLDER))
    entry = replace(ENTRY, charged_nanousd=0)
    accounts.settle([Settlement("a#0", entry)])
    assert not (tmp_path / FOLDER).exists()
    monkeypatch.setattr("orchestra_ray.spend.ledger.FLUSH_S", 0.0)
    accounts.settle([Settlement("b#0", replace(entry, call_id="b"))])
    assert read(tmp_path / FOLDER).num_rows == 2
