"""Jobs of a study in real worker processes: order, resuming, failures, and workers that are killed."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from training.stages import Stage
from training.study.jobs import ATTEMPTS, Executor, Job, LocalProcesses, Plan, Ray, StudyError, estimate, run
from visarl.errors import ConfigError

WORK = "tests.training.study.work"


def job(name: str, function: str, after: tuple[str, ...] = (), settings: object = 0, **arguments: object) -> Job:
    return Job(name, f"{WORK}:{function}", arguments, {"value": settings}, after)


@pytest.fixture(scope="module")
def workers() -> Iterator[LocalProcesses]:
    pool = LocalProcesses(2)
    yield pool
    pool.close()


def noted(folder: Path, settings: object = 0) -> Plan:
    """b and c build on a, d on both."""
    return Plan(
        folder,
        [
            job("a", "note", folder=folder, who="a"),
            job("b", "note", ("a",), folder=folder, who="b", settings=settings),
            job("c/1", "note", ("a",), folder=folder, who="c"),
            job("d", "note", ("b", "c/1"), folder=folder, who="d"),
        ],
    )


def test_each_job_comes_after_those_that_it_builds_on(tmp_path: Path, workers: LocalProcesses) -> None:
    figures = run(noted(tmp_path), workers)
    order = (tmp_path / "order").read_text().split()
    assert order[0] == "a" and sorted(order[1:3]) == ["b", "c"] and order[3] == "d"
    assert figures["d"]["name"] == "d"
    assert "c was here" in (tmp_path / "logs" / "c" / "1.log").read_text()


def test_what_is_done_is_not_done_again_and_what_changed_is(tmp_path: Path, workers: LocalProcesses) -> None:
    run(noted(tmp_path), workers)
    assert noted(tmp_path).seconds_left() == 0
    figures = run(noted(tmp_path), workers)
    assert (tmp_path / "order").read_text().split()[4:] == []
    assert set(figures) == {"a", "b", "c/1", "d"}
    run(noted(tmp_path, settings=1), workers)
    assert (tmp_path / "order").read_text().split()[4:] == ["b", "d"]


def test_a_failure_stops_only_what_needs_it(tmp_path: Path, workers: LocalProcesses) -> None:
    plan = Plan(
        tmp_path,
        [
            job("bad", "refuse"),
            job("needs bad", "note", ("bad",), folder=tmp_path, who="never"),
            job("worse", "stumble"),
            job("good", "note", folder=tmp_path, who="good"),
        ],
    )
    with pytest.raises(StudyError, match=r"2 of 4 jobs failed, 1 wait.*(expected right|by accident).*\.log"):
        run(plan, workers)
    assert (tmp_path / "order").read_text().split() == ["good"]
    assert "Traceback" in (tmp_path / "logs" / "worse.log").read_text()
    assert set(plan.done()) == {"good"}


def test_a_killed_worker_costs_nothing_but_time(tmp_path: Path) -> None:
    pool = LocalProcesses(1)
    try:
        figures = run(Plan(tmp_path, [job("a", "die_once", folder=tmp_path)]), pool)
        assert figures == {"a": {"survived": True}}
        with pytest.raises(StudyError, match="1 of 1 jobs failed"):
            run(Plan(tmp_path, [job("b", "die")]), pool)
    finally:
        pool.close()
    assert ATTEMPTS > 1


def test_the_estimate_counts_what_is_left(tmp_path: Path, workers: LocalProcesses) -> None:
    plan = noted(tmp_path)
    assert estimate(plan, 2, 3600.0).startswith("4 of 4 jobs to do, about 1.0 h with 2 at a time")
    run(plan, workers)
    assert estimate(plan, 2).startswith("0 of 4")


def test_a_job_before_what_it_needs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="job b"):
        Plan(tmp_path, [job("b", "note", ("a",)), job("a", "note")])
    before = {"a": Stage(tmp_path, "a", {})}
    assert "b" in Plan(tmp_path, [job("b", "note", ("a",))], before).stages


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    """A Ray cluster of two cores, started as a person starts one."""
    pytest.importorskip("ray")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # a cluster's token lies in the home folder, which is not ours
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2", f"--port={port}",
        "--node-ip-address=127.0.0.1", "--include-dashboard=false", "--disable-usage-stats",
    ]  # fmt: skip
    with (tmp_path_factory.mktemp("ray") / "log").open("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            limit = time.monotonic() + 60
            while "Ray runtime started" not in Path(log.name).read_text():
                assert process.poll() is None and time.monotonic() < limit, Path(log.name).read_text()
                time.sleep(0.1)
            executor = Ray(f"127.0.0.1:{port}")
            yield executor
            executor.close()
        finally:
            process.terminate()
            process.wait(30)
            monkeypatch.undo()


def test_the_same_on_a_ray_cluster(tmp_path: Path, cluster: Executor) -> None:
    assert cluster.slots == 2
    figures = run(noted(tmp_path), cluster)
    assert (tmp_path / "order").read_text().split()[0] == "a" and figures["d"]["name"] == "d"
    assert run(Plan(tmp_path, [job("x", "die_once", folder=tmp_path)]), cluster) == {"x": {"survived": True}}
    with pytest.raises(StudyError, match="expected right"):
        run(Plan(tmp_path, [job("bad", "refuse")]), cluster)


def test_no_cluster_is_told_in_a_sentence() -> None:
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match="ray start"):
        Ray("127.0.0.1:1")
