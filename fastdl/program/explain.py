"""What a program does, as a table."""

from __future__ import annotations

import math
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl._native import ffi, lib
from fastdl.program.memory import has
from fastdl.program.nest import copied
from fastdl.program.run import SIGNATURES, Call

if TYPE_CHECKING:
    from fastdl.program.program import Program

_GATES = {_kernels.RECURRENT_LSTM: 4, _kernels.RECURRENT_GRU: 3, _kernels.RECURRENT_GRU_RESET_FIRST: 3}


class Row(NamedTuple):
    """A call of a kernel."""

    kernel: str
    reads: tuple[int, ...]
    """The shape of its first input, and of its first result."""
    writes: tuple[int, ...]
    flops: int
    """Floating-point operations: of products a multiply-add is two; of everything else one an element."""
    traffic: int
    """Bytes of the arrays that it is given."""
    place: str
    """Where its first result lies."""
    seconds: float | None


class Explanation(str):
    """A table as text, whose rows are in `rows`."""

    rows: tuple[Row, ...]


def explain(program: Program, time: bool) -> Explanation:
    every = program._first.run.calls
    calls = [call for call in every if not call.prepared]
    seconds = _seconds(program) if time else [None] * len(calls)
    rows = tuple(_row(program, call, s) for call, s in zip(calls, seconds, strict=True))
    header = ["kernel", "input", "result", "flops", "bytes", "result lies in"] + ["us"] * time
    lines = [header, *(_cells(row, time) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    right = {"flops", "bytes", "us"}
    text = [
        "  ".join(
            c.rjust(w) if h in right else c.ljust(w) for c, w, h in zip(line, widths, header, strict=True)
        ).rstrip()
        for line in lines
    ]
    rule = "-" * max(map(len, text))
    flops, traffic = sum(r.flops for r in rows), sum(r.traffic for r in rows)
    memory = program.memory
    text = [text[0], rule, *text[1:], rule, f"{len(rows)} kernels: {flops:,} flops, {traffic:,} bytes"]
    text += [f"between kernels: {memory['planned']:,} bytes planned, {memory['unplanned']:,} if each array had its own"]
    if program.frozen:
        text += [f"of parameters beforehand: {len(every) - len(calls)} kernels, {memory['prepared']:,} bytes"]
    if time:
        peak, bandwidth = _limits(calls[0].dtype if calls else 0)
        took = sum(r.seconds or 0 for r in rows)
        least = sum(max(r.flops / peak, r.traffic / bandwidth) for r in rows)
        text += [
            f"{took * 1e6:,.1f} us, of which this machine needs {least * 1e6:,.1f} at {peak / 1e9:.0f} GFLOP/s and "
            f"{bandwidth / 1e9:.0f} GB/s: {least / took if took else 0:.0%} (what stays in cache may need less)"
        ]
    found = Explanation("\n".join(text))
    found.rows = rows
    return found


def _cells(row: Row, time: bool) -> list[str]:
    shapes = [" x ".join(map(str, shape)) or "()" for shape in (row.reads, row.writes)]
    cells = [row.kernel, *shapes, f"{row.flops:,}", f"{row.traffic:,}", row.place]
    return [*cells, f"{(row.seconds or 0) * 1e6:,.1f}"] if time else cells


def _row(program: Program, call: Call, seconds: float | None) -> Row:
    reads = [u for u in call.uses if not u.writes] or call.uses
    writes = [u for u in call.uses if u.writes] or call.uses
    one, other = (u[0].shape if u else () for u in (reads, writes))
    place = _place(program, writes[0].address) if writes else ""
    return Row(call.kernel, one, other, _flops(call), sum(u.size for u in call.uses), place, seconds)


def _place(program: Program, address: int) -> str:
    memory = program._first.run.memory
    if not has(memory, address):
        return ""
    kind, base = program._plan.of[memory.at(address)[0].start]
    names = {"persistent": "memory of yours", "constant": "a constant", "planned": f"the block, at {base:,}"}
    return names.get(kind, f"{kind} {base}")


def _flops(call: Call) -> int:
    values: dict[str, Any] = {}
    for (_, name, _), (kind, value) in zip(SIGNATURES[call.kernel], call.slots, strict=True):
        values[name] = value
        if kind == "s" and name == "window":
            values |= zip(_kernels.Window._fields, value, strict=True)
        elif kind == "s" and name == "r":
            values |= zip(_kernels.Recurrence._fields, value, strict=True)
    gradients = sum(values.get(name) is not None for name in ("grad_x", "grad_weight"))
    times = gradients if call.kernel.endswith("_backward") else 1
    if call.kernel in ("linear", "linear_backward"):
        return int(2 * times * values["rows"] * values["in_features"] * values["out_features"])
    if call.kernel in ("conv", "conv_backward", "conv_transpose", "conv_transpose_backward"):
        w = _kernels.Window(*(values[field] for field in _kernels.Window._fields))
        taps = w.kernel_depth * w.kernel_height * w.kernel_width
        positions = w.batch * w.out_depth * w.out_height * w.out_width
        return 2 * times * positions * w.out_channels * w.channels // max(1, w.groups) * taps
    if call.kernel in ("recurrent", "recurrent_backward"):
        r = _kernels.Recurrence(*(values[field] for field in _kernels.Recurrence._fields))
        inputs = r.input + (r.layers - 1) * r.directions * r.output
        a_step = _GATES.get(r.kind, 1) * r.hidden * (inputs + r.layers * r.output) * r.directions
        a_step *= 1 if call.kernel == "recurrent" else 2  # gradients of states and inputs, and of weights
        if call.kernel == "recurrent_backward" and values.get("grad_x") is None:
            a_step -= _GATES.get(r.kind, 1) * r.hidden * r.input * r.directions
        return int(2 * r.steps * r.batch * a_step)
    return max((math.prod(u.shape) for u in call.uses), default=0)


def _seconds(program: Program) -> list[float]:
    """Of each call alone, the least of several; everything is put back after that."""
    header = _kernels.PROGRAM_HEADER
    found = []
    with program.kept():
        bound = program._bound(copied(program._arguments))
        new = [np.empty(size, np.uint8) for size in program._plan.results]
        given = [a.ctypes.data if isinstance(a, np.ndarray) else 0 for a in (*bound, *new)]
        addresses = np.array(given or [0], np.int64)  # to which the first run binds the slots
        if status := lib.fdl_program_run(program._code_pointer, ffi.from_buffer("int64_t[]", addresses)):
            program._raise(status)
        before = int(program._code[_kernels.PROGRAM_PREPARED])
        for i in range(before, before + len(program)):
            code = np.zeros(header + 2, np.int64)
            code[_kernels.PROGRAM_CALLS] = 1
            code[header:] = program._code[header + 2 * i : header + 2 * i + 2]
            one = ffi.from_buffer("int64_t[]", code), ffi.from_buffer("int64_t[]", addresses)
            times, many = [], 1
            for _ in range(7):
                begin = perf_counter()
                for _ in range(many):
                    lib.fdl_program_run(*one)
                times.append((perf_counter() - begin) / many)
                many = max(1, min(1000, int(2e-4 / max(times[-1], 1e-8))))
            found.append(min(times))
    return found


def _limits(dtype: int) -> tuple[float, float]:
    """Floating-point operations, and bytes, a second, of one thread."""
    flops, sink = np.zeros(1), np.zeros(1, (np.float32, np.float64)[dtype])
    source, target = np.ones(1 << 22), np.empty(1 << 22)
    peak, bandwidth = [], []
    for _ in range(5):
        begin = perf_counter()
        _kernels.peak_fma(20_000, flops, sink)
        peak.append(float(flops[0]) / (perf_counter() - begin))
        begin = perf_counter()
        np.copyto(target, source)
        bandwidth.append(2.0 * source.nbytes / (perf_counter() - begin))
    return max(peak), max(bandwidth)
