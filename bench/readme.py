"""The figures that README.md and docs/figures.md show, from bench/history.jsonl: tables, and a picture as SVG.

    python -m bench.readme              rewrite them: what is between the markers, and docs/figures.svg
    python -m bench.readme --verify     exit code 1, and what differs, where they are not those of the history

Figures are those of the newest line of each group on the kind of processor that was measured last. A family's score is
the geometric mean of its cases; the best peer is whichever is fastest in a case. The number of cases that lose counts
those whose interval is wholly below 1.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from bench import history as tracking
from bench.history import Interval, Line, replace
from bench.results import Unreadable

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def is_peer(name: str) -> bool:
    """Not fastdl in another form or on another backend, nor its reference."""
    return name not in ("numba", "numpy") and not name.startswith("fastdl")


@dataclass(frozen=True)
class Score:
    """Of the cases of a family with one dtype, number of threads and level."""

    family: str
    dtype: str
    threads: int
    level: str
    cases: int
    over_numpy: float | None
    over_best: float | None
    with_peer: int
    """Cases that a peer takes part in: of those `over_best` is the mean."""
    over: dict[str, tuple[float, float]]
    """By peer: the geometric mean and the least."""
    lost: int
    of_roofline: float | None


def current(history: Sequence[Line]) -> list[Line]:
    """The newest line of each group, on the kind of processor that was measured last."""
    if not history:
        return []
    processor = max(history, key=lambda line: line.when).processor
    return [lines[-1] for lines in tracking.series(history, processor).values()]


def scores(lines: Iterable[Line]) -> list[Score]:
    """By family, those with the most cases first; within it, by dtype, threads and level."""
    groups: dict[tuple[str, str, int, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.family or "other", line.dtype, line.threads, line.level), []).append(line)
    found = [_score(*key, of) for key, of in groups.items()]
    size = {family: sum(each.cases for each in found if each.family == family) for family in {f.family for f in found}}
    return sorted(found, key=lambda each: (-size[each.family], each.family, each.dtype, each.threads, each.level))


def _score(family: str, dtype: str, threads: int, level: str, lines: list[Line]) -> Score:
    best = [peer for line in lines if (peer := best_peer(line)) is not None]
    names = sorted({name for line in lines for name in line.ratio if is_peer(name)})
    by_peer = {name: [line.ratio[name][0] for line in lines if name in line.ratio] for name in names}
    return Score(
        family,
        dtype,
        threads,
        level,
        len(lines),
        _mean(line.ratio["numpy"][0] for line in lines if "numpy" in line.ratio),
        _mean(middle for middle, _, _ in best),
        len(best),
        {name: (statistics.geometric_mean(ratios), min(ratios)) for name, ratios in by_peer.items()},
        sum(high < 1 for _, _, high in best),
        _mean(line.of_roofline for line in lines if line.of_roofline is not None),
    )


def best_peer(line: Line) -> Interval | None:
    """The ratio to the fastest of the peers."""
    return min((ratio for name, ratio in line.ratio.items() if is_peer(name)), default=None)


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return statistics.geometric_mean(listed) if listed else None


# ---- as text ----


def headline(found: Sequence[Score]) -> list[Score]:
    """What README has room for: float32, one thread, the level with the most cases."""
    chosen: dict[str, Score] = {}
    for each in found:
        if each.dtype in ("float32", "") and each.threads == 1:
            chosen[each.family] = max(each, chosen.get(each.family, each), key=lambda score: score.cases)
    return list(chosen.values())


def short_table(history: Sequence[Line]) -> str:
    """README's part: a sentence, the picture, a row a family."""
    lines = current(history)
    rows = [
        row(each.family, str(each.cases), times(each.over_numpy), best_of(each), share(each.of_roofline))
        for each in headline(scores(lines))
    ]
    return "\n".join(
        [
            f"{_of(lines)}; above 1x, fastdl is faster:",
            "",
            "![How fast, by family, against NumPy and the best peer](docs/figures.svg)",
            "",
            "| one thread, float32 | cases | NumPy | best peer | of the limit |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )


def long_table(history: Sequence[Line]) -> str:
    """The part of docs/figures.md: every combination, every peer."""
    lines = current(history)
    found = scores(lines)
    peers = sorted({name for each in found for name in each.over})
    titles = ["family", "dtype", "threads", "level", "cases", "NumPy", "best peer", "lost", *peers, "of the limit"]
    rows = [row(*titles), "|---" * len(titles) + "|"]
    for each in found:
        cells = [each.family, each.dtype, str(each.threads), each.level, str(each.cases), times(each.over_numpy)]
        cells += [best_of(each), str(each.lost) if each.over else ""]
        cells += [
            f"{times(each.over[name][0])} ({times(each.over[name][1])})" if name in each.over else "" for name in peers
        ]
        rows.append(row(*cells, share(each.of_roofline)))
    explained = (
        "of a peer, over the cases that it has, and in brackets the one where fastdl does worst. "
        "Lost: cases in which the best peer is faster for sure."
    )
    return "\n".join([f"{_of(lines)}; {explained}", "", *rows])


def _of(lines: Sequence[Line]) -> str:
    newest = max(lines, key=lambda line: line.when)
    older = sum(line.commit != newest.commit for line in lines)
    where = f"commit {newest.commit[:10]}" + (f" ({older} of them measured at earlier ones)" if older else "")
    return f"Geometric means of {len(lines)} cases on {newest.processor}, {newest.date[:10]}, {where}"


def row(*cells: str) -> str:
    """Of a table; names are text, whatever is in them."""
    return f"| {' | '.join(escape(cell, quote=False).replace('|', '&#124;') for cell in cells)} |"


def times(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio:.2f}x" if ratio < 9.995 else f"{ratio:.1f}x" if ratio < 99.95 else f"{ratio:.0f}x"


def best_of(score: Score) -> str:
    """The mean over the best peer, and of how many cases, where not all have one."""
    some = 0 < score.with_peer < score.cases
    return times(score.over_best) + (f" (of {score.with_peer})" if some else "")


def share(part: float | None) -> str:
    return "" if part is None else f"{part:.0%}"


# ---- as a picture ----

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .small { font-size: 11px; fill: #59636e }
.numpy { fill: #9a6700 } .best { fill: #0969da } .grid { stroke: #d1d9e0 } .one { stroke: #1f2328 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .small { fill: #9198a1 } .numpy { fill: #d29922 } .best { fill: #58a6ff }
  .grid { stroke: #3d444d } .one { stroke: #f0f6fc } }
"""


def picture(history: Sequence[Line]) -> str:
    """Two bars a family, on a logarithmic axis: over NumPy, and over the best peer."""
    lines = current(history)
    rows = headline(scores(lines))
    left, right, height, top, width = 160, 70, 38, 56, 760
    ratios = [value for each in rows for value in (each.over_numpy, each.over_best) if value]
    low = min([0.5, *(0.9 * value for value in ratios)])
    high = max([2.0, *(1.1 * value for value in ratios)])
    scale = (width - left - right) / math.log(high / low)
    bottom = top + height * len(rows)

    def x_of(value: float) -> float:
        return left + scale * math.log(value / low)

    def text(x: float, y: float, words: str, attributes: str = "") -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(words)}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {bottom + 30}" width="{width}" '
        f'height="{bottom + 30}">',
        f"<title>How fast, by family; one thread, float32</title><desc>{escape(_of(lines))}</desc>",
        f"<style>{STYLE}</style>",
        f'<rect class="best" x="{left}" y="14" width="12" height="12"/>',
        text(left + 18, 25, "best peer's time over fastdl's"),
        f'<rect class="numpy" x="{left + 230}" y="14" width="12" height="12"/>',
        text(left + 248, 25, "NumPy's time over fastdl's"),
    ]
    for mark in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0):
        if low <= mark <= high:
            kind, x = "one" if mark == 1 else "grid", x_of(mark)
            parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 12}" y2="{bottom}"/>')
            parts.append(text(x, bottom + 16, f"{mark:g}x", ' class="small" text-anchor="middle"'))
    for i, each in enumerate(rows):
        y = top + height * i
        parts.append(text(left - 10, y + 14, each.family, ' text-anchor="end"'))
        for kind, value, down in (("best", each.over_best, 0), ("numpy", each.over_numpy, 14)):
            if value is not None:
                begin, end = sorted((x_of(1.0), x_of(value)))
                size = max(1.0, end - begin)
                parts.append(f'<rect class="{kind}" x="{begin:.1f}" y="{y + down}" width="{size:.1f}" height="12"/>')
                parts.append(text(max(end, x_of(1.0)) + 5, y + down + 10, times(value), ' class="small"'))
    return "\n".join([*parts, "</svg>", ""])


# ---- the files ----


def contents(root: Path, history: Sequence[Line]) -> dict[Path, str]:
    """What each file has to hold."""
    if not history:
        raise Unreadable("found no line of history, expected recorded results")
    files = {root / "docs" / "figures.svg": picture(history)}
    for path, part in ((root / "README.md", short_table(history)), (root / "docs" / "figures.md", long_table(history))):
        files[path] = between(path, part)
    return files


def between(path: Path, part: str) -> str:
    """The file's text with this between its markers."""
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise Unreadable(f"{path}: expected one {BEGIN} and after it one {END}")
    return f"{text[: text.index(BEGIN)]}{BEGIN}\n{part}\n{text[text.index(END) :]}"


def stale(root: Path, history: Sequence[Line]) -> list[str]:
    """The files whose figures are not those of the history."""
    return [
        str(path.relative_to(root))
        for path, text in contents(root, history).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="bench.readme", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--verify", action="store_true", help="write nothing")
    parser.add_argument("--history", default=str(tracking.PATH), help="(default: bench/history.jsonl)")
    parser.add_argument("--root", default=str(ROOT), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    root = Path(options.root)
    try:
        history = tracking.load(options.history)
        old = stale(root, history)
        if not options.verify:
            for path, text in contents(root, history).items():
                replace(path, text)
    except (Unreadable, OSError) as problem:
        print(problem, file=sys.stderr)
        return 2
    for name in old:
        print(f"{name}: {'its figures are not those of the history' if options.verify else 'written'}")
    return int(bool(old and options.verify))


if __name__ == "__main__":
    sys.exit(main())
