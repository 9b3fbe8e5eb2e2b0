"""What fastdl is held to, each a command, what is read off its report, and the least or the most it may be.

python -m bench.bars             all of them, as a table
python -m bench.bars NAME...     some of them
python -m bench.bars --list      their names, limits and commands
python -m bench.bars --results bench/results/*.json [NAME...]
                                 without a command where `python -m bench` has measured all that it would

Where a limit depends on how vectors are executed, it is stated for each kind (bench.machine.vectors): with AVX-512 in
halves a library that uses it gains little over AVX2, and what both read from memory is read no faster by either.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fastdl
from bench import compare, machine, peers
from bench.history import replace
from bench.results import Entry, Run, Unreadable, is_positive, ratio_of, read

Report = dict[str, Any]


Limit = float | Mapping[str, float] | Callable[[Report], float]
"""A number, numbers by kind of vectors ("": all others), or what follows from the report."""


class Bar(NamedTuple):
    name: str
    command: str
    read: Callable[[Report], float]
    limit: Limit
    at_least: bool
    unit: str = "x"

    def bound(self, report: Report, vectors: str) -> float:
        if callable(self.limit):
            return self.limit(report)
        return self.limit.get(vectors, self.limit[""]) if isinstance(self.limit, Mapping) else self.limit


def at_least(name: str, command: str, read: Callable[[Report], float], limit: Limit) -> Bar:
    return Bar(name, command, read, limit, True)


def at_most(name: str, command: str, read: Callable[[Report], float], limit: Limit, unit: str) -> Bar:
    return Bar(name, command, read, limit, False, unit)


def by_vectors(others: float, **kinds: float) -> Mapping[str, float]:
    """whole: AVX-512 at its full width; halves: in two halves, or with one unit; avx2: without."""
    names = {"whole": ("AVX-512",), "halves": ("AVX-512 in halves", "AVX-512 with one unit"), "avx2": ("AVX2",)}
    return {"": others} | {name: limit for kind, limit in kinds.items() for name in names[kind]}


def ratio(peer: str, kind: str = "geometric mean") -> Callable[[Report], float]:
    return lambda report: report["ratio"][peer][kind]


def best(kind: str = "geometric mean") -> Callable[[Report], float]:
    """The ratio to whichever peer is the fastest, case by case."""
    return lambda report: report["ratio to the fastest"][kind]


def first(name: str) -> Callable[[Report], float]:
    return lambda report: report[f"{name}, s"]


SQUARE = "bench.compare linear --tag bench large --against matmul"
CONV = "bench.compare conv2d --tag bench large --against torch onnxruntime"
PACKED = f"{CONV} --packed"
ENGINES = "bench.compare conv2d --tag bench large --packed --threads 1 --against onnxruntime openvino ncnn mnn"
DIRECT = "bench.compare conv2d --tag bench large --match x(1x1|3x3)-stride=1 --algorithm direct --against torch"
# Longer turns than usual: onnxruntime's threads spin for a while after each of theirs, on cores that fastdl then lacks.
BATCH = "bench.compare conv2d --tag batch8 --threads 2 --against onnxruntime --seconds 0.15 --rounds 5"
BACKWARD = "bench.compare conv2d_backward --tag bench large --against torch"
BACKWARD8 = "bench.compare conv2d_backward --tag batch8 --against torch"
DEPTHWISE = "bench.compare conv2d --tag depthwise --match 8x64x112x112_64x1x3x3-groups=64-padding=1$ --against torch"
TRANSPOSE = "bench.compare conv_transpose2d --tag bench large --against torch"
MAX_POOL = "bench.compare max_pool2d --tag bench large --against torch"
AVG_POOL = "bench.compare avg_pool2d --tag bench large --match kernel_size=3 --against torch"
DROPOUT = "bench.compare dropout --tag bench large --against torch copy"
L1_PENALTY = "bench.compare l1_penalty --tag bench large --against torch"
L2_PENALTY = "bench.compare l2_penalty --tag bench large --against torch"
NORM = "bench.compare {}_norm_backward --with-forward --tag bench large --match {} --against torch"
BOTH = "bench.compare conv2d_backward --tag bench large --with-forward --against torch"
OPTIMIZERS = ("sgd", "adagrad", "rmsprop", "adam", "adamw", "adadelta", "nadam")
STEP = "bench.compare {}_step --tag bench large --against torch --threads {} --rounds 7"
NUMPY_ADAM = "bench.compare adam_step --tag bench large --match sq-10000000 --against numpy --rounds 5"
ENTROPY = "bench.compare cross_entropy --tag bench large --match 1024x1000 --against torch"
ENTROPY_BACKWARD = "bench.compare cross_entropy_backward --tag bench large --match 1024x1000 --against torch"
ENTROPY_FUSED = "bench.compare cross_entropy_with_grad --tag bench large --match 1024x1000 --against torch"
SOFTMAX = "bench.compare softmax --tag bench large --match 1024x1000 --against torch"
SOFTMAX_BACKWARD = "bench.compare softmax_backward --tag bench large --match 1024x1000 --against torch"
LARGE = " large --match 6400000"
ELEMENTWISE = "bench.compare {} --tag bench{} --threads {} --against"
THREADS = "bench.compare conv2d --tag batch8 --threads 2 --against fastdl --peer-threads 1"
NETWORK = "bench.compare {} --tag bench --against torch onnxruntime --threads {}"
LONG = {1: "", 2: " --seconds 0.15 --rounds 7"}  # as in BATCH
TRAINING = "bench.compare {}_backward --with-forward --tag bench --against torch"

BARS = [
    at_least("linear-peak-v4", f"{SQUARE} --isa v4", lambda report: report["of limit"]["minimum"], 0.85),
    at_least("linear-peak-v3", f"{SQUARE} --isa v3", lambda report: report["of limit"]["minimum"], 0.85),
    at_least("linear-matmul-v4", f"{SQUARE} --isa v4", ratio("matmul", "minimum"), by_vectors(1.0, whole=1.7)),
    at_least("linear-matmul-v3", f"{SQUARE} --isa v3", ratio("matmul", "minimum"), by_vectors(0.95, whole=1.0)),
    at_least("conv2d-onnxruntime", CONV, ratio("onnxruntime"), 1.0),
    at_least("conv2d-onnxruntime-worst", CONV, ratio("onnxruntime", "minimum"), 0.75),
    at_least("conv2d-torch", CONV, ratio("torch"), by_vectors(1.2, whole=1.7)),
    at_least("conv2d-packed", PACKED, ratio("onnxruntime"), 1.05),
    at_least("conv2d-packed-worst", PACKED, ratio("onnxruntime", "minimum"), 0.85),
    at_least("conv2d-engines", ENGINES, best(), 1.08),
    at_least("conv2d-engines-worst", ENGINES, best("minimum"), 0.93),
    at_least("conv2d-batch8", BATCH, ratio("onnxruntime"), 1.0),
    at_least("conv2d-backward", BACKWARD, ratio("torch"), 1.3),
    at_least("conv2d-backward-batch8", BACKWARD8, ratio("torch"), 1.3),
    at_least("conv2d-direct-peak", DIRECT, lambda report: report["of limit"]["geometric mean"], 0.8),
    at_least("conv2d-direct-peak-worst", DIRECT, lambda report: report["of limit"]["minimum"], 0.8),
    at_least("ranks", "bench.distributed", lambda report: report["median"]["speedup"]["together"], 1.6),
    at_least("resnet18-training", "bench.models --against torch", lambda report: report["resnet18"]["ratio"], 1.2),
    at_least("depthwise", DEPTHWISE, ratio("torch"), 2.0),
    at_least("conv-transpose", TRANSPOSE, ratio("torch"), 1.2),
    at_least("max-pool", MAX_POOL, ratio("torch"), 8.0),
    at_least("avg-pool", AVG_POOL, ratio("torch"), 3.0),
    *(
        at_least(
            f"{name}-copy-{threads}", f"{ELEMENTWISE.format(name, LARGE, threads)} copy", ratio("copy", "minimum"), 0.9
        )
        for name in ("relu", "leaky_relu")
        for threads in (1, 2)
    ),
    *(
        at_least(
            f"{name}-{where}-{threads}",
            f"{ELEMENTWISE.format(name, cases, threads)} torch numpy",
            best("minimum"),
            by_vectors(0.95, whole=1.0) if where == "large" else 1.0,  # (memory is all there is to it)
        )
        for name in ("tanh", "sigmoid", "gelu", "exp")
        for where, cases in (("large", LARGE), ("cached", " --match 16384"))
        for threads in (1, 2)
    ),
    at_least("dropout", DROPOUT, ratio("torch"), 2.0),
    at_least("dropout-copy", DROPOUT, ratio("copy"), 0.4),
    at_least("l1-penalty", L1_PENALTY, ratio("torch"), 1.0),
    at_least("l2-penalty", L2_PENALTY, ratio("torch"), 0.8),
    at_least("batch-norm", NORM.format("batch", "training=True"), ratio("torch"), 1.3),
    at_least("layer-norm", NORM.format("layer", "."), ratio("torch"), 1.3),
    at_least("group-norm", NORM.format("group", "."), ratio("torch"), 1.3),
    *(
        at_least(f"{name}{end}", command + threads, ratio("torch"), 1.0)
        for name, command in (
            ("cross-entropy", ENTROPY),
            ("cross-entropy-backward", ENTROPY_BACKWARD),
            ("cross-entropy-fused", ENTROPY_FUSED),
            ("softmax", SOFTMAX),
            ("softmax-backward", SOFTMAX_BACKWARD),
        )
        for end, threads in (("", ""), ("-2-threads", " --threads 2"))
    ),
    at_least("conv2d-call", "bench.calls conv2d", lambda report: report["torch over fastdl"], 2.0),
    at_least("conv2d-train-torch", BOTH, ratio("torch"), 1.0),
    *(
        at_least(
            f"{name}-{threads}", STEP.format(name, threads), ratio("torch", "minimum"), by_vectors(0.85, whole=1.0)
        )
        for name in OPTIMIZERS
        for threads in (1, 2)
    ),
    at_least("adam-numpy", NUMPY_ADAM, ratio("numpy"), 8.0),
    at_least("adam-1000-arrays", "bench.calls optimizers", lambda report: report["torch over fastdl"], 3.0),
    at_most("adam-call", "bench.calls optimizer", lambda report: report["Adam.step, us"], 2.0, "us"),
    at_least("threads", THREADS, ratio("fastdl"), 1.7),
    *(
        at_least(f"{name}-{threads}{end}", NETWORK.format(name, threads) + LONG[threads], best(kind), limit)
        for name in ("lstm", "gru")
        for threads in (1, 2)
        for end, kind, limit in (("", "geometric mean", 1.0), ("-worst", "minimum", 0.8))
    ),
    at_least("lstm-training", TRAINING.format("lstm"), ratio("torch"), 1.1),
    at_least("gru-training", TRAINING.format("gru"), ratio("torch"), 2.0),
    at_least("gru-training-batch1", f"{TRAINING.format('gru')} --match x1x", ratio("torch"), 5.0),
    *(
        at_least(
            f"{name}-peak",
            f"bench.compare {name} --tag bench large --match x(32|64)x --against torch",
            lambda report: report["of limit"]["geometric mean"],
            0.8,
        )
        for name in ("lstm", "gru")
    ),
    at_least("lstm-cell-call", "bench.calls recurrent", lambda report: report["torch over fastdl"], 4.0),
    at_most("lstm-step-call", "bench.calls recurrent", lambda report: report["bound step, us"], 2.0, "us"),
    at_most(
        "relu-call",
        "bench.calls relu",
        lambda report: report["fastdl.relu, us"],
        lambda report: max(1.2, 1.3 * report["torch.relu, us"]),
        "us",
    ),
    at_most("relu-numba", "bench.calls numba", lambda report: report["with out= above the symbol, ns"], 20, "ns"),
    *(
        at_most(f"first-{name}", f"bench.first_call {name}", first(name), limit, "s")
        for name, limit in (
            ("relu", 0.3),
            ("linear", 0.5),
            ("conv2d", 1.0),
            ("lstm", 1.0),
            ("adam_step", 0.5),
            ("digits", 6.0),
        )
    ),
    at_most("first-digits-cached", "bench.first_call digits --cached", first("digits"), 0.3, "s"),
    at_most("import", "bench.calls import", lambda report: report["import fastdl beyond numpy, ms"], 50, "ms"),
    at_most("wheel", "bench.calls wheel", lambda report: report["size, MB"], 3, "MB"),
]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="bench.bars", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[[], *(bar.name for bar in BARS)], metavar="NAME")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--results", nargs="+", default=[], metavar="FILE", help="of python -m bench, on this machine")
    parser.add_argument("--json", help="write all reports to this file too")
    options = parser.parse_args(arguments)
    chosen = [bar for bar in BARS if not options.names or bar.name in options.names]
    if options.list:
        for bar in chosen:
            limit = "" if callable(bar.limit) else f"{bar.bound({}, machine.vectors()):g}"
            print(f"{bar.name:<24} {limit:>6} python -m {bar.command}")
        return 0
    try:
        known = measured([read(path) for path in options.results])
    except Unreadable as problem:
        print(problem, file=sys.stderr)
        return 2
    for bar in [bar for bar in chosen if lacking(bar)]:
        print(f"{bar.name}: skipped, {lacking(bar)}")
        chosen.remove(bar)
    reports = {}
    for command in dict.fromkeys(bar.command for bar in chosen):
        reports[command] = from_results(command, known) or run(command)
    missed = show(chosen, reports)
    if options.json:
        try:
            replace(Path(options.json), json.dumps(reports, indent=1))
        except (ValueError, OSError) as problem:
            print(problem, file=sys.stderr)
            return 2
    return int(bool(missed))


def measured(runs: Sequence[Run]) -> dict[str, dict[str, Entry]]:
    """Entries by group and implementation: of groups that were not disturbed, on this kind of processor, at the level
    that peers were held to as well."""
    found: dict[str, dict[str, Entry]] = {}
    for each in runs:
        about = each.machine.get("fastdl")
        kind, level = (about.get("processor"), about.get("level")) if isinstance(about, dict) else ("", "")
        if kind != machine.kind():
            raise Unreadable(f"{each.source}: found results of {kind!r}, expected of this machine's {machine.kind()!r}")
        for entry in each.entries:
            who = str(entry.extra.get("implementation"))
            if (
                not entry.extra.get("disturbed")
                and entry.extra.get("level") == level
                and (ratio_of(entry) or who == "fastdl")
            ):
                found.setdefault(entry.group, {})[who] = entry
    return found


def from_results(command: str, known: dict[str, dict[str, Entry]]) -> Report | None:
    """The report of that command, if everything that it would measure has been."""
    program, *arguments = command.split()
    if not known:
        return None
    if program == "bench.calls":
        return _calls(arguments[0], known)
    return _compare(compare.parse(arguments), known) if program == "bench.compare" else None


def _compare(options: argparse.Namespace, known: dict[str, dict[str, Entry]]) -> Report | None:
    """Of cases as they are: with what only fastdl has, or along with their forward, they are others."""
    from tests.cases import all_cases

    if options.packed or options.with_forward or options.algorithm or options.peer_threads:
        return None
    level = options.isa or fastdl.active_isa()
    rows = []
    for case in all_cases(options.operation):
        if not case.tags.issuperset(options.tag) or not re.search(options.match, case.id):
            continue
        entries = known.get(f"{case.id} {options.dtype} {options.threads}t {level}")
        if entries is None or not {"fastdl", *options.against} <= entries.keys():
            return None
        if not is_positive(entries["fastdl"].extra.get("of_roofline")):
            return None
        rows.append(entries)
    if not rows:
        return None
    ratios = {name: [row[name].extra["ratio"][0] for row in rows] for name in options.against}
    return {
        "of limit": compare.summary([row["fastdl"].extra["of_roofline"] for row in rows]),
        "ratio": {name: compare.summary(values) for name, values in ratios.items()},
        "ratio to the fastest": compare.summary([min(values) for values in zip(*ratios.values(), strict=True)]),
    }


CALLS = {
    "relu": ("relu of 8 values", {"fastdl.relu, us": "fastdl", "torch.relu, us": "torch"}),
    "conv2d": ("conv2d of an image of 8x8", {}),
    "recurrent": ("lstm_cell of 32", {"bound step, us": "fastdl bound"}),
    "optimizers": ("adam step of 1000 arrays", {}),
}
"""By what bench.calls calls them: the case, and which times are in its report."""


def _calls(what: str, known: dict[str, dict[str, Entry]]) -> Report | None:
    case, times = CALLS.get(what, ("", {}))
    entries = known.get(f"{case} float32 1t {fastdl.active_isa()}", {})
    if not {"fastdl", "torch", *times.values()} <= entries.keys():
        return None
    report = {name: 1e6 * entries[implementation].median for name, implementation in times.items()}
    return report | {"torch over fastdl": entries["torch"].extra["ratio"][0]}


def lacking(bar: Bar) -> str:
    """What the bar is for and this machine does not have: an instruction-set level, or peers."""
    level = re.search(r"--isa (\w+)", bar.command)
    if level and level[1] not in fastdl.supported_isas():
        return f"this machine has {', '.join(fastdl.supported_isas())} only"
    absent = [name for name in peers.PEERS if name in bar.command.split() and peers.missing(name)]
    return f"not installed: {', '.join(absent)}" if absent else ""


def run(command: str) -> Report:
    """In a process of its own: levels and threads of some peers can only be chosen before they are imported."""
    print(f"$ python -m {command}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.json")
        subprocess.run([sys.executable, "-m", *command.split(), "--json", str(path)], check=True)
        return json.loads(path.read_text())


def show(bars: list[Bar], reports: dict[str, Report]) -> list[Bar]:
    """Print the table; the bars that were missed."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=machine.kind())
    for column in ("bar", "measured", "held to", "", "command"):
        table.add_column(column, no_wrap=column != "command")
    missed = []
    for bar in bars:
        report = reports[bar.command]
        value, limit = bar.read(report), bar.bound(report, machine.vectors())
        reached = value >= limit if bar.at_least else value <= limit
        if not reached:
            missed.append(bar)
        bound = f"{'at least' if bar.at_least else 'at most'} {limit:.2f} {bar.unit}"
        table.add_row(
            bar.name, f"{value:.2f} {bar.unit}", bound, "" if reached else "missed", f"python -m {bar.command}"
        )
    Console(width=None if sys.stdout.isatty() else 180).print(table)
    return missed


if __name__ == "__main__":
    sys.exit(main())
