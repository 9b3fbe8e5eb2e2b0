"""python -m bench.dashboard results/*.json -o dashboard.html [--history bench/history.jsonl] [--commit-url URL]"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import results
from bench.dashboard import write


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.dashboard", description="Results of benchmarks as a page.")
    parser.add_argument("results", nargs="+", metavar="JSON", help="what pytest-benchmark wrote; several are a history")
    parser.add_argument("-o", "--output", default="dashboard.html", metavar="FILE", help="default: %(default)s")
    parser.add_argument("--history", metavar="JSONL", help="ratios by commit, as bench/history.jsonl has them")
    parser.add_argument("--commit-url", default="", metavar="URL", help="https://.../{commit}, for links to commits")
    options = parser.parse_args(arguments)
    out = Path(options.output).resolve()
    try:
        for path in filter(None, (*options.results, options.history)):
            if Path(path).resolve() == out:
                raise ValueError(f"-o: found {path}, which is read, expected another file")
        runs = [results.read(path) for path in options.results]
        lines = []
        if options.history:
            from bench import history

            lines = history.load(options.history)
        write(runs, lines, options.output, options.commit_url)
    except (ValueError, ImportError, OSError) as problem:  # results.Unreadable is a ValueError
        print(f"dashboard: {problem}", file=sys.stderr)
        return 2
    size = sum(len(run.entries) for run in runs)
    print(f"{options.output}: {size} results of {len(runs)} file{'s' * (len(runs) > 1)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
