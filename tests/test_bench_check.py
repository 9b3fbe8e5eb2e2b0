"""--check: what it finds, and that it does not cry wolf, on times that were made up as noisy machines make them."""

from __future__ import annotations

import doctest
import json
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("bench", reason="the measurements are not beside the tests")
from bench import check, history
from bench.results import Run, Unreadable
from tests.made_up_runs import PROCESSOR, group_of, run_of, saved

CASES, COMMITS, ROUNDS = 60, 10, 11
FAMILY = {group_of(i): f"family {i % 6}" for i in range(CASES)}
SLOWED = 1.15


class Machine:
    """Times with heavy tails, a frequency that drifts over the rounds, cases that are noisier than others, and ratios
    that differ from one process to the next by 2% (a tail of their own); a neighbour takes half of some rounds."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.ratio = np.exp(self.rng.normal(1, 1, CASES))
        self.spread = 0.02 * np.exp(0.4 * self.rng.standard_normal(CASES))

    def times(
        self, slowed: Collection[int] = (), neighbour: bool = False, factor: float = SLOWED
    ) -> dict[str, dict[str, np.ndarray]]:
        rng, shape = self.rng, (CASES, ROUNDS)
        drift = 1 + 0.1 * rng.random((CASES, 1)) * np.linspace(0, 1, ROUNDS)
        ours, theirs = (1e-3 * drift * np.exp(0.03 * rng.standard_t(3, shape)) for _ in range(2))
        theirs *= (self.ratio * np.exp(self.spread * rng.standard_t(4, CASES) / math.sqrt(2)))[:, None]
        if neighbour:
            ours, theirs = (each * np.where(rng.random(shape) < 0.35, 2, 1) for each in (ours, theirs))
        ours[list(slowed)] *= factor
        return {group_of(i): {"fastdl": ours[i], "numpy": theirs[i]} for i in range(CASES)}

    def run(self, at: int, **how: object) -> Run:
        return run_of(self.times(**how), at, families=FAMILY)  # type: ignore[arg-type]

    def history(self, commits: int = COMMITS) -> list[history.Line]:
        return [line for at in range(commits) for line in history.lines_of(self.run(at)).lines]

    def remeasure(self, at: int = 100, **how: object) -> check.Remeasure:
        def again(groups: Sequence[str]) -> Run:
            times = self.times(**how)  # type: ignore[arg-type]
            return run_of({group: times[group] for group in groups}, at, families=FAMILY)

        return again


def only(run: Run, groups: Collection[str]) -> Run:
    return replace(run, entries=[entry for entry in run.entries if entry.group in groups])


def names(report: check.Report) -> set[str]:
    return {verdict.name for verdict in report.failed}


# ---- what it finds ----


@pytest.mark.parametrize("seed", range(3))
def test_a_kernel_that_takes_15_percent_longer(seed: int) -> None:
    machine = Machine(seed)
    slowed = range(0, CASES, 6)  # all of a family
    report = check.check([machine.run(100, slowed=slowed)], machine.history(), machine.remeasure(slowed=slowed))
    assert report.code == 1
    assert names(report) <= {group_of(i) for i in slowed} | {"all of family 0"}
    assert "all of family 0" in names(report)
    assert len(names(report)) >= 4  # of eleven: one case alone has to lose more, where it is as noisy as that
    assert all(0.05 < verdict.by < 0.25 and verdict.times == check.AGAIN + 1 for verdict in report.failed)


def test_one_case_alone() -> None:
    machine = Machine(0)
    how = {"slowed": [int(np.argmin(machine.spread))], "factor": 1.25}
    found = check.check([machine.run(100, **how)], machine.history(), machine.remeasure(**how))
    assert names(found) == {group_of(how["slowed"][0])}


def test_a_family_that_loses_little_everywhere() -> None:
    """8%, which hardly a case alone would show."""
    machine = Machine(1)
    how = {"slowed": range(0, CASES, 6), "factor": 1.08}
    report = check.check([machine.run(100, **how)], machine.history(20), machine.remeasure(**how))
    assert "all of family 0" in names(report)


def test_what_was_slow_before_is_expected() -> None:
    machine, slowed = Machine(2), range(0, CASES, 6)
    lines = machine.history() + [
        line for at in range(COMMITS, 2 * COMMITS) for line in history.lines_of(machine.run(at, slowed=slowed)).lines
    ]
    assert not check.check([machine.run(100, slowed=slowed)], lines, machine.remeasure(slowed=slowed)).failed
    assert not check.check([machine.run(100)], lines, machine.remeasure()).failed  # faster is no failure


# ---- what it does not ----


@pytest.mark.parametrize("seed", range(2))
def test_ten_runs_of_unchanged_code_two_beside_a_neighbour(seed: int) -> None:
    machine = Machine(10 + seed)
    lines = machine.history()
    for number in range(10):
        how = {"neighbour": number in (3, 8)}
        report = check.check([machine.run(100, **how)], lines, machine.remeasure(**how))
        assert not report.failed, [(v.name, v.deviations, v.by) for v in report.failed]


def test_without_measuring_again_it_would() -> None:
    """That the machine above is noisy enough to fool one look: at a case by itself, at 2 deviations."""
    machine = Machine(20)
    report = check.check([machine.run(100, neighbour=True)], machine.history())
    assert sum(verdict.deviations < -check.SUSPECT for verdict in report.verdicts) >= 2


def test_the_disturbed_alarm_nobody() -> None:
    machine, lines = Machine(4), None
    lines = machine.history()
    slowed = {group_of(0): "a busy neighbour"}
    run = run_of(machine.times(slowed=[0], factor=2.0), 100, families=FAMILY, disturbed=slowed)

    def again(groups: Sequence[str]) -> Run:
        more = run_of(machine.times(slowed=[0], factor=2.0), 100, families=FAMILY, disturbed=slowed)
        return only(more, groups)

    report = check.check([run], lines, again)
    assert report.code == 0
    assert report.unjudged == {group_of(0): "a busy neighbour"}
    # Measured in peace, it is judged.
    report = check.check([run], lines, machine.remeasure(slowed=[0], factor=2.0))
    assert group_of(0) in names(report)


def test_what_could_not_be_confirmed_is_no_alarm_and_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(10)
    slowed = {"slowed": range(CASES), "factor": 2.0}

    def disturbed(groups: Sequence[str]) -> Run:
        times = machine.times(**slowed)  # type: ignore[arg-type]
        return only(run_of(times, 100, families=FAMILY, disturbed=dict.fromkeys(times, "a neighbour")), groups)

    report = check.check([machine.run(100, **slowed)], machine.history(), disturbed)
    assert names(report) == set()
    assert {group_of(i) for i in range(CASES)} <= {g for g, why in report.unjudged.items() if why == check.DOUBTFUL}
    check.show(report)
    assert "not judged: it looks slower, but was disturbed when it was measured again" in capsys.readouterr().out


def test_a_slow_run_that_does_not_come_again() -> None:
    machine = Machine(5)
    report = check.check([machine.run(100, slowed=range(CASES), factor=1.3)], machine.history(), machine.remeasure())
    assert report.code == 0


# ---- against what ----


def test_no_history_on_this_kind_of_processor() -> None:
    machine = Machine(6)
    elsewhere = [replace(line, processor="another") for line in machine.history(2)]
    for lines in ([], elsewhere):
        report = check.check([machine.run(100, slowed=range(CASES), factor=9.0)], lines, machine.remeasure())
        assert report.code == 0
        assert report.note == f"There is no history on {PROCESSOR}: these ratios are compared with nothing."
        assert set(report.unjudged) == {group_of(i) for i in range(CASES)}


def test_the_commit_itself_is_no_history_unless_the_tree_differs() -> None:
    machine = Machine(7)
    lines = machine.history(1)
    assert check.check([machine.run(0)], lines).note
    assert not check.check([run_of(machine.times(), 0, dirty=True)], lines).note


def test_another_run_in_place_of_a_history(tmp_path: Path) -> None:
    machine = Machine(8)
    path = tmp_path / "old.json"
    path.write_text(json.dumps(saved(machine.run(0))))
    lines = check.expected_of(str(path), "unused")
    slowed = {"slowed": range(0, CASES, 6), "factor": 1.6}
    assert not check.check([machine.run(0)], lines, machine.remeasure(0)).failed
    report = check.check([machine.run(0, **slowed)], lines, machine.remeasure(0, **slowed))
    assert names(report) >= {group_of(i) for i in range(0, CASES, 12)}
    assert all(verdict.since == str(path) for verdict in report.failed)
    # One that was measured outside of a repository will do.
    path.write_text(json.dumps(saved(machine.run(0)) | {"commit_info": {"id": "unversioned"}}))
    assert len(check.expected_of(str(path), "unused")) == CASES


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(9)
    record, new, cut = (tmp_path / name for name in ("history.jsonl", "new.json", "cut.json"))
    for at in range(6):
        history.append(record, machine.run(at))
    arguments = [str(new), "--history", str(record), "--remeasure", "0"]
    new.write_text(json.dumps(saved(machine.run(100))))
    assert check.main(arguments) == 0
    new.write_text(json.dumps(saved(machine.run(100, slowed=[3], factor=2.0))))
    assert check.main(arguments) == 1
    shown = capsys.readouterr().out
    assert "case3-float32-1-v3" in shown
    assert "1 of 66 cases and families are slower" in shown
    assert check.main([*arguments[:2], str(tmp_path / "none.jsonl"), *arguments[3:]]) == 2, "a slip of the pen"
    assert "No such file" in capsys.readouterr().err
    cut.write_text(new.read_text()[:-99])
    assert check.main([str(cut), *arguments[1:]]) == 2
    record.write_text(record.read_text()[:-99])
    assert check.main(arguments) == 2
    errors = capsys.readouterr().err
    assert "cut.json: not JSON, or cut off" in errors
    assert "history.jsonl: line" in errors


def test_runs_that_cannot_be_compared() -> None:
    machine = Machine(0)
    run, lines = machine.run(100), machine.history(1)
    with pytest.raises(Unreadable, match="found no machine_info"):
        check.check([replace(run, machine={})], lines)
    with pytest.raises(Unreadable, match="several kinds of processor"):
        check.check([run, replace(machine.run(100), source="b", machine={"fastdl": {"processor": "b"}})], lines)
    with pytest.raises(Unreadable, match=r"commit (\w+) and commit \1 with changes, expected those of one"):
        check.check([run, run_of(machine.times(), 100, dirty=True)], lines)
    with pytest.raises(Unreadable, match="found no group with an entry that is judged and a reference"):
        check.check([replace(run, entries=[e for e in run.entries if e.extra["implementation"] != "numpy"])], lines)


def test_what_is_measured_again_is_the_same_tree() -> None:
    """Another commit, checked out meanwhile, neither confirms a loss nor excuses one."""
    machine = Machine(3)
    lines, slowed = machine.history(), machine.run(100, slowed=range(CASES), factor=2.0)
    assert check.check([slowed], lines, machine.remeasure(slowed=range(CASES), factor=2.0)).code == 1
    with pytest.raises(Unreadable, match=r"measured again was commit \w+, expected commit"):
        check.check([slowed], lines, machine.remeasure(101))


def test_measured_again_by_the_same_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "measured_again", lambda groups, more: more)
    run = run_of({})
    of = {clock: replace(run, machine={"fastdl": {"clock": clock}}) for clock in ("processor time", "wall time")}
    assert check.remeasured_like([of["processor time"]])([]) == ["--cpu"]
    assert check.remeasured_like([of["wall time"]])([]) == check.remeasured_like([run])([]) == []
    with pytest.raises(Unreadable, match="by processor time and by wall time, expected those of one clock"):
        check.remeasured_like([*of.values()])


def test_each_level_is_measured_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def measured(groups: Sequence[str], more: Sequence[str]) -> Run:
        asked.append([*groups, *more])
        return run_of({group: {"fastdl": np.ones(3) + np.arange(3)} for group in groups})

    monkeypatch.setattr(check, "_measured", measured)
    run = check.measured_again(["a float32 1t v3", "b float32 1t v4", "c float32 2t v3"], ["--cpu"])
    assert asked == [["a float32 1t v3", "c float32 2t v3", "--cpu"], ["b float32 1t v4", "--cpu"]]
    assert len(run.groups()) == 3


def test_how_groups_are_measured_again() -> None:
    names = ["max_pool1d-4x(2)-k=3 float32 1t v3", "relu-8 float64 2t v3"]
    assert check.options_for(names) == [
        "--minutes",
        "3",
        "--only",
        *(f"^{re.escape(name)}$" for name in names),
        *("--dtype", "float32", "float64", "--threads", "1", "2", "--level", "v3"),
    ]


# ---- its statistics ----


def test_examples() -> None:
    for module, count in ((check, 1), (history, 2)):
        assert doctest.testmod(module) == (0, count)


def test_student() -> None:
    for chance, freedom, expected in (  # of tables
        (0.025, 1, 12.706),
        (0.005, 10, 3.169),
        (0.0005, 5, 6.869),
        (0.025, math.inf, 1.960),
        (3e-5, math.inf, 4.013),
    ):
        assert check.student(chance, freedom) == pytest.approx(expected, rel=5e-3)


def test_variances_that_differ_are_told_from_those_that_do_not() -> None:
    rng = np.random.default_rng(0)

    def levels(spreads: np.ndarray) -> list[check.Level]:
        return [check.Level(spread * rng.standard_normal(10), "") for spread in spreads]

    same, weight = check._prior(levels(np.full(400, 0.02)))
    assert math.sqrt(same) == pytest.approx(0.02, rel=0.1)
    assert weight > 20
    assert check._prior(levels(0.02 * np.exp(0.7 * rng.standard_normal(400))))[1] < 8
