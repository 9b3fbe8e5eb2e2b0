"""Benchmarks: what they time is checked, what disturbs them is noticed, and options that make no sense are refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("pytest_benchmark")
pytest.importorskip("threadpoolctl")

import fastdl
from bench import __main__ as command
from bench import bars, contenders, contest, machine, peers, results, suites, table, timing, worker
from bench.contenders import Inaccurate, Prepared
from bench.contest import Here, Settings
from bench.suites import Absent, Group
from tests.cases import all_cases

SUPPORTED = fastdl.supported_isas()
CHECKOUT = Path(__file__).parents[1]
RELU = next(case for case in all_cases("relu", "bench") if case.id == "relu-16384")
QUICK = Settings(rounds=3, seconds=1e-4, repeats=0)


# ---- results are checked ----


def prepared(monkeypatch: pytest.MonkeyPatch, case: Any, build: Callable[[dict[str, Any]], Any]) -> Prepared:
    """A peer that is made of the case's arguments."""
    monkeypatch.setattr(peers, "prepare", lambda name, operation, arguments, threads: build(arguments))
    found = contenders.contender("torch", case, np.float32, 1, case.expected(case.make(np.float32)))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda y: None, "found 0 results, expected 1"),
        (lambda y: (), "found 0 results, expected 1"),
        (lambda y: y[:0], "found 0 results, expected 1"),
        (lambda y: y[:-1], r"found the shape \(16383,\), expected \(16384,\)"),
        (np.zeros_like, "off by"),
        (lambda y: np.full_like(y, np.nan), "off by"),
        (lambda y: y * 2, "off by"),
        (lambda y: y * np.float32(1.001), "off by"),
    ],
)
def test_a_contender_that_returns_something_else_is_not_timed(
    monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Any], Any], words: str
) -> None:
    with pytest.raises(AssertionError, match=words):
        prepared(monkeypatch, RELU, lambda given: lambda: wrong(np.maximum(given["x"], 0)))


@pytest.mark.parametrize("view", [np.asarray, lambda y: y[None][0], lambda y: lambda: y])
def test_one_that_computes_nothing_later_is_noticed(
    monkeypatch: pytest.MonkeyPatch, view: Callable[[Any], Any]
) -> None:
    """And returns what lies in the memory of its results from before."""
    made: list[Any] = []

    def build(given: dict[str, Any]) -> Callable[[], Any]:
        def call() -> Any:
            made.append(made[0] if made else np.maximum(given["x"], 0))
            return view(made[0])

        return call

    call, check, *_ = prepared(monkeypatch, RELU, build)
    with pytest.raises(AssertionError, match="off by nan"):
        check(call())


def test_what_a_contender_was_given_is_not_spoilt() -> None:
    given = RELU.make(np.float32)["x"]
    contenders.spoil([given[::2]], [given])
    assert np.array_equal(given, RELU.make(np.float32)["x"])


def test_one_that_returns_nothing_later_is_noticed_after_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    def build(given: dict[str, Any]) -> Callable[[], Any]:
        def call() -> Any:
            nonlocal made
            made += 1
            return np.maximum(given["x"], 0) if made < 3 else None

        return call

    call, check, *_ = prepared(monkeypatch, RELU, build)
    check(call())
    with pytest.raises(AssertionError, match="found 0 results"):
        timing.Turn(call, 1e-3, check=check)()


def test_one_of_several_results_may_not_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(case for case in all_cases("linear_backward", "bench") if "large" not in case.tags)
    arguments = case.make(np.float32)
    both = fastdl.linear_backward(**arguments)
    assert prepared(monkeypatch, case, lambda given: lambda: both)
    with pytest.raises(AssertionError, match="found 2 results, expected 3"):
        prepared(monkeypatch, case, lambda given: lambda: both[:2])


def test_a_step_in_place_has_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(case for case in all_cases("sgd_step", "bench") if "large" not in case.tags)
    idle = False

    def build(given: dict[str, Any]) -> Callable[[], Any]:
        return lambda: None if idle else fastdl.sgd_step(**given)

    call, check, *_ = prepared(monkeypatch, case, build)
    check(call())
    idle = True
    with pytest.raises(AssertionError, match="changed nothing in param"):
        check(call())


def test_masks_of_a_peer_are_its_own_but_not_everything_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(case for case in all_cases("dropout", "bench") if np.prod(case.shapes[0]) >= 1000)
    p = case.parameters.get("p", 0.5)
    kept = np.random.default_rng(5).random(case.shapes[0]) >= p
    assert prepared(monkeypatch, case, lambda given: lambda: given["x"] * kept / np.float32(1 - p))
    with pytest.raises(AssertionError, match="mean square"):
        prepared(monkeypatch, case, lambda given: lambda: np.zeros_like(given["x"]))


# ---- a group ----


class Fake:
    """A suite of made-up contenders: "fastdl" adds ones, which the others do better or worse."""

    checked: ClassVar[list[str]] = []

    @staticmethod
    def traffic(group: Group) -> int:
        return 8000

    @classmethod
    def prepare(cls, group: Group, implementation: str) -> Prepared:
        x = np.ones(1000)
        if implementation == "absent":
            raise Absent("absent has no such thing")
        if implementation == "rough":
            raise Inaccurate("rough is off by 0.1", 0.1)
        calls: dict[str, Callable[[], Any]] = {"empty": list, "broken": lambda: 1 / 0}

        def check(found: Any) -> None:
            cls.checked.append(implementation)
            np.testing.assert_array_equal(found, x + 1)

        if implementation == "broken":
            raise OSError("a library is missing")
        return Prepared(calls.get(implementation, lambda: x + 1), check)


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Group:
    monkeypatch.setattr(suites, "suite", lambda name: Fake)
    names = ("fastdl", "numpy", "torch", "empty", "absent", "rough", "broken", "torch.compile", "fastdl again")
    level = fastdl.active_isa()
    return Group("fake", "pointwise", "add", "add", "float32", 1, level, 1e3, names, (("fastdl again", "variant"),))


@pytest.fixture
def here() -> Iterator[Here]:
    place = Here()
    yield place
    place.close()


def test_a_group_is_measured_in_rounds(group: Group, here: Here) -> None:
    Fake.checked.clear()
    outcome = contest.measure(group, QUICK, here)
    assert set(outcome.times) == {"fastdl", "numpy", "torch", "fastdl again"}
    assert {len(times) for times in outcome.times.values()} == {3}
    assert all(0 < seconds < 1 for times in outcome.times.values() for seconds in times)
    assert Fake.checked.count("fastdl") == 4, "after every turn, and the one that counted calls"
    assert outcome.absent == {"absent": "absent has no such thing", "rough": "rough is off by 0.1"}
    assert set(outcome.failed) == {"empty", "broken"}
    assert "OSError: a library is missing" in outcome.failed["broken"]
    info = contest.extra_info(group, "torch", outcome)
    median, low, high = info.pop("ratio")
    assert low <= median <= high
    assert info["role"] == "peer"
    assert info["flops"] == 1e3
    assert info["bytes"] == 8000
    assert info["peak_flops"] > 1e6
    assert info["bandwidth"] > 1e6
    assert info["of_roofline"] > 0
    assert "ratio" not in contest.extra_info(group, "fastdl", outcome), "it is what others are divided by"
    assert contest.extra_info(group, "fastdl again", outcome)["role"] == "variant"


def test_only_those_asked_for_take_part(group: Group, here: Here) -> None:
    asked = contest.measure(group, Settings(3, 1e-4, 0, against=frozenset(("torch.compile",))), here)
    assert set(asked.times) == {"fastdl", "torch.compile"}
    late = contest.measure(group, Settings(3, 1e-4, 0, allowance=lambda: -1.0), here)
    assert set(late.times) == {"fastdl", "numpy"}, "what ratios are tracked by is never left out"
    assert late.absent["torch"] == "no time left"


def test_packed_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are what is timed, by a name of its own, and of nothing else."""
    names = ["linear-1x64_10x64_10", "conv2d-grid-16x16x8x8_32x16x3x3_32-padding=1", "relu-16384"]
    groups = suites.with_packed_weights(g for g in suites.all_groups() if g.case in names)
    assert {group.case for group in groups} == set(names[:2])
    for group in groups:
        seen: list[Any] = []
        monkeypatch.setattr(
            contenders.peers, "prepare", lambda name, operation, given, threads, s=seen: s.append(given)
        )
        with pytest.raises(suites.Absent):
            group.prepare("fastdl")
        assert type(seen[0]["weight"]).__name__.startswith("Packed")
        assert group.name.endswith(" packed")
        monkeypatch.undo()
        group.prepare("fastdl").call()


class Disturbed:
    """A place where a neighbour is at work as often as that says."""

    def __init__(self, shares: list[tuple[float, float]]) -> None:
        self.left, self.here = shares, Here()

    settle = clear = close = lambda self: None

    def prepare(self, *given: Any) -> Any:
        return self.here.prepare(*given)

    def watch(self) -> Any:
        return self

    def shares(self) -> tuple[float, float]:
        return self.left.pop(0)


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multiply-adds always take the same time, whatever else this machine is doing."""
    monkeypatch.setitem(machine.MOST, "drift", 1e9)
    monkeypatch.setitem(machine.MOST, "slow", 1e9)


@pytest.mark.usefixtures("steady")
def test_what_was_disturbed_is_repeated_and_else_marked(group: Group) -> None:
    again = Settings(3, 1e-4, 2)
    calm = contest.measure(group, again, Disturbed([(0, 0.3), (0, 0.0)]))
    assert (calm.attempts, calm.disturbed) == (2, "")
    never = contest.measure(group, again, Disturbed([(0, 0.3), (0, 0.2), (0.1, 0.1)]))
    assert never.attempts == 3
    assert never.disturbed == "other processes took 20% of the time", "the least disturbed of them counts"
    hurried = contest.measure(group, Settings(3, 1e-4, 2, allowance=lambda: 0.0), Disturbed([(0, 0.3)]))
    assert hurried.attempts == 1
    assert "30%" in hurried.disturbed


def test_disturbances_in_words() -> None:
    assert machine.disturbance(0.01, 0.04, [1.0] * 9, 1.05) == (0, "")
    by, words = machine.disturbance(0.06, 0.0, [1.0] * 9, 1.0)
    assert by == pytest.approx(3)
    assert words == "the host took 6% of the time"
    assert "drifted by 11%" in machine.disturbance(0, 0, [1.0] * 4 + [0.9] * 5, 1.0)[1]
    assert "at 50% of their best" in machine.disturbance(0, 0, [1.0] * 9, 2.0)[1]


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="no /proc")
def test_a_busy_neighbour_is_seen() -> None:
    core = machine.quietest(machine.cores(), 0.05)
    code = f"import os; os.sched_setaffinity(0, {core})\nprint(flush=True)\nwhile True: pass"
    neighbour = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert neighbour.stdout is not None
        neighbour.stdout.readline()
        watch = machine.Watch(core)
        subprocess.run([sys.executable, "-c", "import time; time.sleep(0.5)"], check=True)
        assert watch.shares()[1] > 2 * machine.MOST["neighbour"]
    finally:
        neighbour.kill()
        neighbour.communicate()


# ---- processes of their own ----


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped here")
def test_contenders_in_processes_of_their_own() -> None:
    level = fastdl.active_isa()
    work = next(g for g in suites.suite("operations").groups("float32", 2, level) if g.case == "relu-16384")
    workers = worker.Workers(2, level)
    try:
        turn = workers.prepare(work, "numpy", 1e-3)
        assert 0 < turn() < 1
        assert turn.calls > 1
        (pid,) = workers.processes()
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)  # it does not spin while others have their turn
        with pytest.raises(Absent, match="matmul has no relu"):
            workers.prepare(work, "matmul", 1e-3)
        outcome = contest.measure(work, Settings(3, 1e-3, 0, against=frozenset(("numpy",))), _Apart(workers))
        assert set(outcome.times) == {"fastdl", "numpy"}
        turn = workers.prepare(work, "numpy", 1e-3)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(worker.Lost, match="numpy has ended"):
            turn()
    finally:
        workers.close()
    assert not workers.processes()


class _Apart(contest.Apart):
    def __init__(self, workers: worker.Workers) -> None:
        self.workers = workers


# ---- ratios ----


def test_the_interval_of_a_ratio() -> None:
    ours = [1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 1.0]
    assert timing.ratio_interval([2 * t for t in ours], ours) == pytest.approx((2, 2, 2))
    noisy = [2.0, 2.4, 1.6, 2.1, 1.9, 2.2, 2.0]
    median, low, high = timing.ratio_interval(noisy, [1.0] * 7)
    assert median == 2
    assert 1.6 <= low < 2 < high <= 2.4
    assert timing.ratio_interval(noisy, [1.0] * 7) == (median, low, high)
    assert timing.ratio_interval([3.0] * 3, [1.0] * 9)[0] == 3, "rounds that one took no part in"


# ---- the kind of processor ----

_512 = "fma avx2 avx512f avx512bw avx512cd avx512dq avx512vl"


def cpuinfo(vendor: str, family: int, model: int, flags: str) -> str:
    return f"processor : 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\nflags\t\t: {flags}\n\n"


@pytest.mark.parametrize(
    ("text", "architecture", "kind"),
    [
        (cpuinfo("AuthenticAMD", 23, 1, "avx2 fma"), "x86_64", "AMD Zen (AVX2)"),
        (cpuinfo("AuthenticAMD", 25, 0x11, _512), "x86_64", "AMD Zen 4 (AVX-512 in halves)"),
        (cpuinfo("AuthenticAMD", 25, 0x11, "avx2 fma"), "x86_64", "AMD Zen 4 (AVX2)"),
        (cpuinfo("AuthenticAMD", 26, 2, _512), "x86_64", "AMD Zen 5 (AVX-512)"),
        (cpuinfo("AuthenticAMD", 26, 0x24, _512), "x86_64", "AMD Zen 5 mobile (AVX-512 in halves)"),
        (cpuinfo("AuthenticAMD", 99, 1, _512), "x86_64", "AMD (AVX-512)"),
        (cpuinfo("GenuineIntel", 6, 0x55, _512), "x86_64", "Intel Skylake server (AVX-512)"),
        (cpuinfo("GenuineIntel", 6, 0x8C, _512), "x86_64", "Intel Tiger Lake (AVX-512 with one unit)"),
        (cpuinfo("GenuineIntel", 6, 0x97, "avx2 fma"), "x86_64", "Intel Alder Lake (AVX2)"),
        (cpuinfo("GenuineIntel", 19, 1, "avx2 fma"), "x86_64", "Intel (AVX2)"),
        (cpuinfo("HygonGenuine", 24, 1, "avx2 fma"), "x86_64", "HygonGenuine (AVX2)"),
        (
            "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n",
            "aarch64",
            "ARM 0x41 0xd40 (NEON)",
        ),
        ("", "arm64", "ARM (NEON)"),
        ("", "x86_64", "x86_64 (SSE)"),
        ("", "riscv64", "riscv64 (vectors unknown)"),
        ("no colon\n: \n", "", "unknown (vectors unknown)"),
    ],
)
def test_kinds_of_processors(text: str, architecture: str, kind: str) -> None:
    assert str(machine.processor_of(text, architecture)) == kind


def test_every_kind_has_a_limit() -> None:
    for bar in bars.BARS:
        if not callable(bar.limit):
            for vectors in ("AVX-512", "AVX-512 in halves", "AVX2", "NEON", "something new"):
                assert bar.bound({}, vectors) > 0
    torch = next(bar for bar in bars.BARS if bar.name == "linear-matmul-v4")
    assert torch.bound({}, "AVX-512") > torch.bound({}, "AVX-512 in halves")


# ---- what there is to time ----


@pytest.fixture(scope="module")
def groups() -> list[Group]:
    return suites.all_groups()


def test_groups_are_told_apart(groups: list[Group]) -> None:
    names = [group.name for group in groups]
    assert len(set(names)) == len(names)


def test_every_family_has_something_quick(groups: list[Group]) -> None:
    from bench.suites import operations

    families = {group.family for group in groups}
    assert families >= set(operations.FAMILIES)
    if not any(map(peers.missing, ("torch", "onnxruntime"))):
        assert families >= {"networks", "training", "programs", "calls"}
    quick = suites.chosen(groups, depth="quick")
    assert {group.family for group in quick} == families
    assert len(quick) < 50
    assert {case for case in operations.QUICK} <= {group.case for group in quick}
    assert len(quick) < len(suites.chosen(groups)) < len(suites.chosen(groups, depth="full"))


def test_networks_have_their_shapes(groups: list[Group]) -> None:
    cases = {case.id: case for case in all_cases("conv2d") if case.tags & {"vgg16", "mobilenet_v2"}}
    tags = [next(iter(case.tags & {"vgg16", "mobilenet_v2"})) for case in cases.values()]
    assert tags.count("vgg16") == 9
    assert {group.case for group in groups} >= cases.keys()
    everything = sum(case.flops for case in cases.values() if "mobilenet_v2" in case.tags)
    assert 0.3e9 < everything < 0.6e9, "of 0.6 GFLOP, of which some layers come more than once"


def test_the_operations_of_networks_are_counted() -> None:
    onnx = pytest.importorskip("onnx")
    from bench import onnx as networks

    model = onnx.load_from_string(networks.MODELS["lenet"]())
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    } | {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    flops = 0.0
    for node in graph.node:
        if node.op_type == "Conv":
            flops += 2 * np.prod(shapes[node.output[0]]) * np.prod(shapes[node.input[1]][1:])
        elif node.op_type == "Gemm":
            flops += 2 * np.prod(shapes[node.input[1]])
    assert flops == pytest.approx(networks.FLOPS["lenet"], rel=0.01)


def test_words_choose(groups: list[Group]) -> None:
    found = suites.chosen(groups, ["^conv"])
    assert {group.family for group in found} >= {"convolution"}
    assert {group.operation[:4] for group in found} <= {"conv", "im2c", "col2", "fuse"}
    (one,) = suites.chosen(groups, ["^relu-16384 float32"], "quick")
    assert one.case == "relu-16384"
    rare = next(group for group in groups if group.tags == {"full"})
    assert suites.chosen(groups, [f"^{rare.name}$"], "quick") == [rare], "a whole name is always found"
    assert not suites.chosen(groups, ["no such thing"])


# ---- the command ----


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "no such thing"], "nothing has no such thing"),
        (["--only", "("], "--only: found '('"),
        (["--quick", "--full"], "not allowed with"),
        (["--level", "v9"], "--level: found 'v9'"),
        (["--threads", "0"], "found 0, expected 1"),
        (["--threads", "two"], "--threads"),
        (["--dtype", "float16"], "--dtype"),
        (["--minutes", "nan"], "--minutes"),
        (["--minutes", "-1"], "expected more than 0"),
        (["--threads", "1", "2", "--cpu"], "--cpu: one thread only"),
        (["--against", "nobody"], "found nobody, expected among"),
        (["--packed", "--record"], "--packed: found --check or --record"),
        (["--packed", "--only", "^relu-16384"], "nothing has ^relu-16384"),
        (["--check", "--against", "torch"], "--check: found no numpy in --against"),
        (["-o", str(Path(__file__))], "expected a folder"),
        (["-o", str(Path(__file__, "folder", "out.json"))], "expected a folder"),
        (["-o", "OCCUPIED"], "expected a file"),
        (["--fast"], "unrecognized"),
    ],
)
def test_bad_options(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.setattr(command.environment, "hold_to", lambda level, threads: None)
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(SystemExit) as ended:
        command.parse([word.replace("OCCUPIED", str(tmp_path / "folder.json")) for word in arguments])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_a_level_that_others_are_held_to_is_a_run_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one process NumPy would be v4's, under the name of v3."""
    held: list[str] = []
    monkeypatch.setattr(command.environment, "hold_to", lambda level, threads: held.append(level))
    monkeypatch.setattr(fastdl, "supported_isas", lambda: ["v4", "v3"])
    with pytest.raises(SystemExit):
        command.parse(["--level", "v3", "v4"])
    assert "--level: v3 in a run of its own" in capsys.readouterr().err
    if "v3" in SUPPORTED:
        command.parse(["--level", "v3", "v3", "--only", "^relu-16384"])
        assert held == ["", "v3"]


SCRIPT = """
import sys
from bench import __main__, contest
measure, made = contest.measure, []

def interrupted(group, settings, place):
    made.append(group)
    if len(made) == AFTER:
        raise KeyboardInterrupt
    return measure(group, settings, place)

contest.measure = interrupted
sys.exit(__main__.end(sys.argv[1:]))
"""


def bench(folder: Path, *arguments: str, after: int = 0) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", f"AFTER = {after}\n{SCRIPT}", *arguments, "-o", str(folder / "out.json")]
    return subprocess.run(program, cwd=CHECKOUT, capture_output=True, text=True, timeout=300)


def test_what_was_measured_is_saved_after_an_interruption(tmp_path: Path) -> None:
    chosen = ["--quick", "--only", "^relu-16384", "^tanh-16384", "--against", "numpy"]
    done = bench(tmp_path, *chosen, after=2)
    assert done.returncode == 130, done.stderr
    run = results.read(tmp_path / "out.json")
    assert len(run.groups()) == 1
    ours, reference = run.entries
    assert (ours.extra["role"], reference.extra["role"]) == ("ours", "reference")
    assert "relu-16384" in done.stdout
    data = json.loads((tmp_path / "out.json").read_text())
    assert data["machine_info"]["fastdl"]["processor"] == machine.kind()
    assert data["machine_info"]["fastdl"]["versions"]["numpy"] == np.__version__
    entry = data["benchmarks"][1]
    paired = [b / a for a, b in zip(*(each["stats"]["data"] for each in data["benchmarks"]), strict=True)]
    assert entry["extra_info"]["ratio"][0] == pytest.approx(np.median(paired), rel=1e-6), "the rounds themselves"
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".html"] == ["out.json"], "nothing half-written"


def test_nothing_is_written_when_nothing_was_measured(tmp_path: Path) -> None:
    done = bench(tmp_path, "--quick", "--only", "^relu-16384", "--against", "numpy", after=1)
    assert done.returncode == 130
    assert "nothing was measured" in done.stderr
    assert not (tmp_path / "out.json").exists()


FAILS = """
import sys
from bench import __main__, contest
measure = contest.measure

def failing(group, settings, place):
    if group.case.startswith("tanh"):
        raise RuntimeError("no such place")
    outcome = measure(group, settings, place)
    if OURS:
        outcome.times.clear()
        outcome.failed["fastdl"] = "AssertionError: off by 3"
    return outcome

contest.measure = failing
sys.exit(__main__.end(sys.argv[1:]))
"""


@pytest.mark.parametrize("ours", [False, True])
def test_no_failure_is_passed_over(tmp_path: Path, ours: bool) -> None:
    """Not one outside of a contender, beside groups that are good; nor one after which nothing is left to be saved."""
    words = ["--quick", "--only", "^relu-16384", *([] if ours else ["^tanh-16384"]), "--against", "numpy"]
    out = tmp_path / "out.json"
    out.write_text("an older run")
    program = [sys.executable, "-c", f"OURS = {ours}\n{FAILS}", *words, "-o", str(out)]
    done = subprocess.run(program, cwd=CHECKOUT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    if ours:
        assert "nothing was measured" in done.stderr
        assert "fastdl: AssertionError: off by 3" in done.stderr
        assert done.stderr.count("failed: ") == 1
        assert out.read_text() == "an older run"
    else:
        assert "RuntimeError: no such place" in done.stdout
        assert len(results.read(out).groups()) == 1


def test_a_run_without_time_says_so(tmp_path: Path) -> None:
    done = bench(tmp_path, "--minutes", "0.0001", "--only", "^relu-16384", "--against", "numpy")
    assert done.returncode == 1
    assert "nothing was measured: no time left, --minutes gives more" in done.stderr


def test_what_is_wrong_is_told_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command.environment, "hold_to", lambda level, threads: None)
    monkeypatch.setattr(command, "run", lambda options: pytest.fail("it measures"))
    monkeypatch.setattr(command, "PATH", tmp_path / "history.jsonl")
    command.PATH.write_text('{"schema": 7}\n')
    assert command.end(["--quick", "--only", "^relu-16384", "-o", str(tmp_path)]) == 2
    assert "history.jsonl: line 1: schema: found 7" in capsys.readouterr().err


def test_what_comes_of_a_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The dashboard beside the results; --check's exit code; --record; and 1 where a result was wrong."""
    seen: dict[str, Any] = {}
    found = SimpleNamespace(code=0)
    history = ModuleType("bench.history")
    history.load = lambda path: ["a line"]  # type: ignore[attr-defined]
    history.commit_url = lambda: "https://a.org/{commit}"  # type: ignore[attr-defined]
    history.append = lambda path, run: seen.setdefault("recorded", SimpleNamespace(lines=[1], left_out={}))  # type: ignore[attr-defined]
    check = ModuleType("bench.check")
    check.check = lambda runs, lines, again: seen.update(checked=(runs, lines, again)) or found  # type: ignore[attr-defined]
    check.remeasured_like, check.show = lambda runs: runs, lambda report: None  # type: ignore[attr-defined]
    dashboard = ModuleType("bench.dashboard")
    dashboard.__spec__ = ModuleSpec("bench.dashboard", None)
    dashboard.write = lambda runs, lines, out, url: out.write_text(f"{len(runs)} {lines} {url}")  # type: ignore[attr-defined]
    for module in (history, check, dashboard):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(command, "PATH", tmp_path / "history.jsonl")
    (tmp_path / "history.jsonl").touch()
    session = SimpleNamespace(failures={}, late=["relu"], groups=[1, 2])
    extra = {"family": "pointwise", "case": "relu", "implementation": "fastdl", "role": "ours"}
    run = results.Run("x", "", "", {}, {}, [results.Entry("relu", "fastdl", "fastdl", {}, {"median": 1.0}, extra)])
    options = SimpleNamespace(json=tmp_path / "out.json", check=False, record=False)
    assert command.report(options, session, run, False) == 0
    assert (tmp_path / "dashboard.html").read_text() == "1 ['a line'] https://a.org/{commit}"
    assert not seen
    assert "no time left for 1 of 2 groups" in capsys.readouterr().out
    options.check = options.record = True
    found.code = 1
    assert command.report(options, session, run, False) == 1
    assert seen["checked"] == ([run], ["a line"], [run])
    assert "recorded" in seen
    seen.clear()
    assert command.report(options, session, run, True) == 0, "half a run is neither judged nor recorded"
    assert not seen
    session.failures = {"relu, torch": "found [0] results"}
    options.check = options.record = False
    assert command.report(options, session, run, False) == 1
    assert "failed: relu, torch: found [0] results" in capsys.readouterr().out


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    def entry(implementation: str, role: str, seconds: float, **more: Any) -> results.Entry:
        extra = {"family": "pointwise", "case": "relu [bold]", "implementation": implementation, "role": role, **more}
        return results.Entry("relu", implementation, implementation, {}, {"median": seconds}, extra)

    entries = [
        entry("fastdl", "ours", 2e-6, of_roofline=0.5, disturbed="a neighbour"),
        entry("numpy", "reference", 8e-6, ratio=[4.0, 3.9, 4.1]),
        entry("torch", "peer", 1.9e-6, ratio=[0.95, 0.9, 1.1]),
    ]
    table.show(results.Run("x", "", "", {}, {}, entries), Console(width=120))
    printed = capsys.readouterr().out
    for words in ("relu [bold] *", "2 us", "50%", "4.00", "0.95~", "1 of 1", "disturbed while"):
        assert words in printed


def test_bars_read_results() -> None:
    level = fastdl.active_isa()
    cases = [case.id for case in all_cases("max_pool2d") if case.tags.issuperset(("bench", "large"))]

    def run(ratio: float, disturbed: str = "", kind: str = "") -> results.Run:
        entries = []
        for case in cases:
            for name in ("fastdl", "torch"):
                extra = {"implementation": name, "of_roofline": 0.5, "disturbed": disturbed, "level": level}
                extra |= {"ratio": [ratio, ratio, ratio]} if name == "torch" else {}
                entries.append(results.Entry(f"{case} float32 1t {level}", name, name, {}, {"median": 1.0}, extra))
        about = {"fastdl": {"processor": kind or machine.kind(), "level": level}}
        return results.Run("some.json", "", "", about, {}, entries)

    report = bars.from_results(bars.MAX_POOL, bars.measured([run(9.0)]))
    assert report is not None
    assert report["ratio"]["torch"]["geometric mean"] == pytest.approx(9)
    assert report["ratio to the fastest"]["minimum"] == pytest.approx(9)
    assert bars.from_results(bars.AVG_POOL, bars.measured([run(9.0)])) is None, "other cases"
    assert bars.from_results(bars.MAX_POOL, bars.measured([run(9.0, disturbed="by a neighbour")])) is None
    assert bars.from_results(f"{bars.MAX_POOL} --with-forward", bars.measured([run(9.0)])) is None
    with pytest.raises(results.Unreadable, match="of 'another'"):
        bars.measured([run(9.0, kind="another")])
    with pytest.raises(results.Unreadable, match="found results of ''"):
        bars.measured([replace(run(9.0), machine={"fastdl": "a word"})])
    for left_out in ("level", "of_roofline", "ratio", "implementation"):
        lacking = run(9.0)
        for each in lacking.entries:
            each.extra.pop(left_out, None)
        assert bars.from_results(bars.MAX_POOL, bars.measured([lacking])) is None, left_out
