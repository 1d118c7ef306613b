"""Several processes at one table, and catalogs that answer late, wrongly or not at all."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException, ServiceUnavailableError

from pipeline import publication, store_errors
from pipeline.errors import RunError
from pipeline.iceberg import catalog, replace
from pipeline.layout import RunLayout


@pytest.fixture
def first_commits(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has the first commits of so many threads begin at one moment, each on top of the same snapshot."""

    def meet(threads: int) -> None:
        barrier = threading.Barrier(threads)
        really = SqlCatalog.commit_table
        came: set[int] = set()

        def meeting(self: SqlCatalog, *arguments: Any) -> Any:
            if threading.get_ident() not in came:
                came.add(threading.get_ident())
                barrier.wait(30)
            return really(self, *arguments)

        monkeypatch.setattr(SqlCatalog, "commit_table", meeting)

    return meet


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Exception | str]]:
    """What the catalog does at the next commits: an error in place of it, or after it where `made` stands before."""
    script: list[Exception | str] = []
    really = SqlCatalog.commit_table

    def scripted(self: SqlCatalog, *arguments: Any) -> Any:
        made = script and script[0] == "made"
        if made:
            script.pop(0)
            done = really(self, *arguments)
        if script:
            raise script.pop(0)  # type: ignore[misc]
        return done if made else really(self, *arguments)

    monkeypatch.setattr(SqlCatalog, "commit_table", scripted)
    monkeypatch.setattr(store_errors, "RETRY_AFTER_S", (0.0, 0.0))
    yield script
    assert not script


@pytest.mark.parametrize("runs", [("r1", "r2"), ("run-2026-11-23T01-00-00Z", "run-2026-11-23T01-30-00Z")])
def test_two_runs_at_once(
    lake: Any, run: Callable[..., str], runs: tuple[str, str], first_commits: Callable[[int], None]
) -> None:
    """Both are there, whoever was first; also where their ids differ after the 16th character alone."""
    output = ""
    for run_id in runs:
        output = run(run_id, "a", "b")
    publication.check_table(lake.uri, RunLayout.at(output, "r0"), make=True)
    first_commits(2)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda run_id: publication.publish(output, run_id, lake.uri), runs))
    assert lake.ids() == [(run_id, name) for run_id in runs for name in ("a", "b")]
    assert lake.data_files() == lake.named_files()


@pytest.mark.parametrize("was_there", [False, True])
def test_one_run_by_two_at_once(
    lake: Any, layout: RunLayout, run: Callable[..., str], was_there: bool, first_commits: Callable[[int], None]
) -> None:
    """It is there once; who was second says that it is there already, and removes what it copied."""
    output = run("r1", "a")
    publication.check_table(lake.uri, layout, make=True)
    if was_there:
        publication.publish(output, "r1", lake.uri)
        run("r1", "b")  # another content under the same id
    expected = [("r1", name) for name in ("a", "b")[: 1 + was_there]]
    before = lake.data_files()
    first_commits(2)
    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(lambda _: publication.publish(output, "r1", lake.uri), range(2)))
    assert lake.ids() == expected
    assert sorted(one.is_new for published in done for one in published if one.rows) == [False, True]
    assert lake.data_files() - before == lake.named_files()


def test_two_that_make_the_tables_and_their_columns(
    lake: Any, run: Callable[..., str], first_commits: Callable[[int], None]
) -> None:
    """Neither the tables nor a new column is taken for a mistake where another process was first."""
    output = run("r1", "a", columns={"lot": (pa.int32(), 1)})
    run("r2", "b", columns={"lot": (pa.int64(), 2)})
    barrier = threading.Barrier(2)

    def publish(run_id: str) -> None:
        barrier.wait(30)
        publication.publish(output, run_id, lake.uri)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(publish, ("r1", "r2")))
    assert [(row["image_id"], row["lot"]) for row in lake.rows()] == [("a", 1), ("b", 2)]


@pytest.mark.parametrize(
    "lost",
    [
        CommitFailedException("409: said of a commit that was made"),
        CommitStateUnknownException("502"),
        ConnectionError("the answer was lost"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_commit_whose_answer_is_lost(
    lake: Any, run: Callable[..., str], lost: Exception, answers: list[Exception | str]
) -> None:
    """It is found in the table, made once, and its files stay: a delete and an append would have lost them."""
    output = run("r1", "a")
    publication.check_table(lake.uri, RunLayout.at(output, "r1"), make=True)
    answers += ["made", lost]
    (_, scores) = publication.publish(output, "r1", lake.uri)
    assert scores.is_new
    assert lake.ids() == [("r1", "a")]
    assert lake.data_files() == lake.named_files()
    assert len(lake.table().snapshots()) == 1


def test_a_commit_of_which_nothing_is_known(lake: Any, run: Callable[..., str], answers: list[Exception | str]) -> None:
    """Said so; the files stay, as it may still be made. The same again replaces whatever came of it."""
    output = run("r1", "a")
    publication.check_table(lake.uri, RunLayout.at(output, "r1"), make=True)
    answers += [CommitStateUnknownException("504")]
    with pytest.raises(RunError, match="not known whether the commit was made: CommitStateUnknownException"):
        publication.publish(output, "r1", lake.uri)
    assert len(lake.data_files()) == 1
    assert [one.is_new for one in publication.publish(output, "r1", lake.uri)] == [False, True]
    assert lake.ids() == [("r1", "a")]


def test_a_commit_that_takes_too_long(lake: Any, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not known, too: it is made a moment later, and its files are there then."""
    output = run("r1", "a")
    publication.check_table(lake.uri, RunLayout.at(output, "r1"), make=True)
    asked, made = threading.Event(), threading.Event()
    really = SqlCatalog.commit_table

    def slow(self: SqlCatalog, *arguments: Any) -> Any:
        asked.wait(30)
        done = really(self, *arguments)
        made.set()
        return done

    monkeypatch.setattr(SqlCatalog, "commit_table", slow)
    monkeypatch.setattr(catalog, "ANSWER_S", 2.0)
    with pytest.raises(RunError, match="not known whether the commit was made: TimeoutError"):
        publication.publish(output, "r1", lake.uri)
    asked.set()
    assert made.wait(30)
    assert lake.ids() == [("r1", "a")]


def test_others_who_are_always_first(
    lake: Any, run: Callable[..., str], answers: list[Exception | str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error after some tries, and what was copied is removed; the way on is told."""
    output = run("r1", "a")
    publication.check_table(lake.uri, RunLayout.at(output, "r1"), make=True)
    with lake.table().transaction() as change:
        change.set_properties({"commit.retry.num-retries": "0"})
    monkeypatch.setattr(replace.time, "sleep", lambda _: None)
    answers += [CommitFailedException("branch main has changed")] * 5
    with pytest.raises(
        RunError, match=r"'r1' is committed, but not published: .* change this run in the table all"
    ) as it:
        publication.publish_after_commit(output, "r1", lake.uri)
    assert "--run-id r1 again, or `jobs/runs.py publish r1" in str(it.value)
    assert lake.data_files() == set()


def test_a_catalog_that_fails_for_a_moment_is_asked_again(
    lake: Any, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As stores are, but less long at the start of a run, where somebody may still be watching."""
    output = run("r1", "a")
    monkeypatch.setattr(store_errors, "RETRY_AFTER_S", (0.0,) * 4)
    really, failures = SqlCatalog.load_table, [ServiceUnavailableError("503"), *[ConnectionError("reset")] * 3]

    def flaky(self: SqlCatalog, name: Any) -> Any:
        if failures:
            raise failures.pop()
        return really(self, name)

    monkeypatch.setattr(SqlCatalog, "load_table", flaky)
    publication.publish(output, "r1", lake.uri)
    assert lake.ids() == [("r1", "a")]
    failures += [ServiceUnavailableError("503")] * 3
    with pytest.raises(publication.InputError, match="ServiceUnavailableError"):
        publication.check_table(lake.uri, RunLayout.at(output, "r2"))
