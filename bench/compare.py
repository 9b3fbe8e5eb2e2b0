"""Ratios to peers, measured in one run: contenders take turns in short rounds, and medians are compared.

    python -m bench.compare linear --tag large --isa v3 --against matmul
    python -m bench.compare conv2d --tag bench large --against torch onnxruntime
    python -m bench.compare conv2d --tag bench large --packed --against onnxruntime openvino ncnn mnn
    python -m bench.compare conv2d_backward --tag bench large --with-forward --against torch
    python -m bench.compare lstm_backward --with-forward --against torch
    python -m bench.compare conv2d --tag batch8 --threads 2 --against fastdl --peer-threads 1
    python -m bench.compare conv2d --tag bench large --against numba numpy

A ratio is the peer's time over fastdl's: above 1, fastdl is faster. "of limit" is the part of this machine's
roofline that is reached: the peak multiply-add rate at that level, measured in the same rounds, or memory's
bandwidth, whichever allows less (data that stays in cache may pass 100% of the latter). Every contender's result
is checked against the float64 reference before it is timed; a peer that is off by more than 1000 roundings of the
largest result is not timed in that case: "off by" says how far, relative to that result. Of several peers there is also
the ratio to the fastest of them in each case. With --isa v3, peers are held to AVX2 as well, but for ncnn and mnn.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
from pathlib import Path
from typing import Any

from bench import environment, peers
from bench.timing import offer_cpu_time


def main(argv: list[str] | None = None) -> dict[str, Any]:
    options = parse(argv)
    if options.isa:
        os.environ["FASTDL_ISA"] = options.isa
    environment.hold_to(options.isa, options.peer_threads or options.threads)
    report = compare(options)
    show(report)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1))
    return report


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("operation", help="linear, conv2d, conv2d_backward, relu, ...")
    parser.add_argument("--tag", nargs="+", default=["bench"], help="cases that carry all these tags (default: bench)")
    parser.add_argument("--match", default="", help="of those, the ones whose id this regular expression finds")
    names = [*peers.PEERS, "copy"]
    parser.add_argument("--against", nargs="+", default=["torch"], choices=names, metavar="PEER", help=" ".join(names))
    parser.add_argument("--isa", default="", help="instruction-set level (default: the best one)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peer-threads", type=int, help="default: as many as fastdl")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--with-forward", action="store_true", help="time the forward along with this backward")
    parser.add_argument("--algorithm", default="", help="fastdl's, for convolution (default: auto)")
    parser.add_argument(
        "--packed", action="store_true", help="give fastdl weights that were packed before (conv2d, linear)"
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.02, help="of each contender in each round")
    offer_cpu_time(parser)
    parser.add_argument("--json", help="write the report to this file too")
    return parser.parse_args(argv)


def compare(options: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    import fastdl
    from bench import machine
    from tests.cases import all_cases

    dtype = np.dtype(options.dtype)
    cases = [
        c for c in all_cases(options.operation) if c.tags.issuperset(options.tag) and re.search(options.match, c.id)
    ]
    if not cases:
        raise SystemExit(f"no case of {options.operation} has the tags {options.tag} and an id with {options.match!r}")
    peak, bandwidth = machine.limits(dtype, options.threads, fastdl.active_isa())
    rows = [compare_case(case, dtype, bandwidth, options) for case in cases]
    ratios = {name: [row["ratio"][name] for row in rows if name in row["ratio"]] for name in options.against}
    fastest = [row["ratio"][row["fastest"]] for row in rows if row["fastest"]]
    return {
        "operation": options.operation,
        "isa": fastdl.active_isa(),
        "threads": options.threads,
        "peer threads": options.peer_threads or options.threads,
        "dtype": dtype.name,
        "peak GFLOP/s": peak / 1e9,
        "copy GB/s": bandwidth / 1e9,
        "cases": rows,
        "of limit": summary([row["of limit"]["fastdl"] for row in rows]),
        "ratio": {name: summary(values) for name, values in ratios.items() if values},
        "ratio to the fastest": summary(fastest) if fastest else {},
    }


def compare_case(case: Any, dtype: Any, bandwidth: float, options: argparse.Namespace) -> dict[str, Any]:
    from bench import machine
    from bench.contenders import Inaccurate, contender
    from bench.timing import interleave, median_ratio

    peer_threads = options.peer_threads or options.threads
    expected = case.expected(case.make(dtype))
    contenders, before, inaccurate = {}, {}, {}
    threads_of = {"fastdl": options.threads} | {
        f"fastdl, threads={peer_threads}" if peer == "fastdl" else peer: peer_threads for peer in options.against
    }
    for name, threads in threads_of.items():
        prepared, peer = None, name.split(",")[0]
        try:
            prepared = contender(
                peer, case, dtype, threads, expected, options.with_forward, options.packed, options.algorithm
            )
        except Inaccurate as problem:
            inaccurate[peer] = problem.error
        if prepared is not None:
            contenders[name] = prepared.call
        before[name] = lambda threads=threads: _on("c", threads)
        if name == "numba" and prepared is not None:  # chosen for a whole turn, as its users do
            contenders[name] = prepared.call.within
            before[name] = lambda threads=threads: _on("numba", threads)
    before["fma"] = before["fastdl"]
    fma, fma_flops = machine.fma(dtype, options.threads)
    times = interleave(contenders | {"fma": fma}, options.rounds, options.seconds, before)

    flops, traffic = case.flops, case.bytes(dtype)
    if options.with_forward:  # the same products once more; the output is written and read
        flops, traffic = flops * 1.5, traffic * 1.5
    least = [max(t * flops / fma_flops, traffic / bandwidth) for t in times.pop("fma")]
    names = {name: name.split(",")[0] for name in times}
    ratio = {names[name]: median_ratio(t, times["fastdl"]) for name, t in times.items() if name != "fastdl"}
    return {
        "case": case.id,
        "flops": flops,
        "bytes": traffic,
        "seconds": {name: statistics.median(t) for name, t in times.items()},
        "of limit": {name: median_ratio(least, t) for name, t in times.items()},
        "ratio": ratio,
        "fastest": min((name for name in ratio if name != "copy"), key=ratio.__getitem__, default=""),
        "off by": inaccurate,
    }


def _on(backend: Any, threads: int) -> None:
    import fastdl

    fastdl.use_backend(backend)
    fastdl.set_num_threads(threads)


def summary(values: list[float]) -> dict[str, float]:
    return {"geometric mean": math.exp(statistics.fmean(map(math.log, values))), "minimum": min(values)}


def show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    rows = report["cases"]
    names, against = (list(dict.fromkeys(name for row in rows for name in row[key])) for key in ("seconds", "ratio"))
    against += [name for row in rows for name in row["off by"] if name not in against]
    several = len({*against} - {"copy"}) > 1
    title = "{operation}, {dtype}, level {isa}, threads={threads}; peak {peak:.0f} GFLOP/s, copy {copy:.0f} GB/s"
    table = Table(title=title.format(**report, peak=report["peak GFLOP/s"], copy=report["copy GB/s"]))
    ratios = [*(f"ratio to {name}" for name in against), *(["to the fastest"] if several else [])]
    for column in ["case", *names, "of limit", *ratios]:
        table.add_column(column, justify="left" if column == "case" else "right")
    for row in rows:
        cells = [ratio_to(row, name) for name in against] + ([ratio_to(row, row["fastest"])] if several else [])
        table.add_row(row["case"], *(speed(row, name) for name in names), f"{row['of limit']['fastdl']:.0%}", *cells)
    for kind in ("geometric mean", "minimum"):
        cells = [f"{report['ratio'][name][kind]:.2f}" if name in report["ratio"] else "" for name in against]
        cells += [f"{report['ratio to the fastest'].get(kind, math.nan):.2f}"] if several else []
        table.add_row(kind, *("" for _ in names), f"{report['of limit'][kind]:.0%}", *cells, style="bold")
    Console(width=None if os.isatty(1) else 300).print(table)


def ratio_to(row: dict[str, Any], name: str) -> str:
    if name in row["off by"]:
        return f"off by {row['off by'][name]:.0e}"
    return f"{row['ratio'][name]:.2f}" if name in row["ratio"] else ""


def speed(row: dict[str, Any], name: str) -> str:
    if name not in row["seconds"]:
        return ""
    seconds = row["seconds"][name]
    time = f"{seconds * 1e6:.2f} us" if seconds < 1e-4 else f"{seconds * 1e3:.2f} ms"
    computes = row["flops"] > row["bytes"]
    rate = f"{row['flops'] / seconds / 1e9:.0f} GFLOP/s" if computes else f"{row['bytes'] / seconds / 1e9:.1f} GB/s"
    return f"{rate}  {time}"


if __name__ == "__main__":
    main()
