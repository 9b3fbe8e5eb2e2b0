"""One HTML file that shows results of benchmarks, offline: anybody's pytest-benchmark JSON, and fastdl's own.

    python -m bench.dashboard results/*.json -o dashboard.html --history bench/history.jsonl

The page is the files of page/, put together here as they are, and data (bench/dashboard/data.py), in which no name can
end the script element that holds it. Charts are drawn by Apache ECharts, as the package panel brings it.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.dashboard.data import page_data
from bench.results import Run
from fastdl._files import replacing

if TYPE_CHECKING:
    from bench.history import Line

__all__ = ["page", "write"]

PAGE = Path(__file__).parent / "page"
SCRIPTS = ("model", "dom", "charts", "overview", "families", "plots", "history", "about", "main")
"""In the order in which they build on each other; together they are one script."""


def write(runs: Sequence[Run], history: Sequence[Line], out: str | Path, commit_url: str = "") -> None:
    """Write the dashboard of these results to the file `out`, whole or not at all.

    Parameters
    ----------
    runs
        As `bench.results.read` gives them; of an entry that is in several, the latest is shown.
    history
        As `bench.history.load` gives it; without any, several runs are one.
    out
        The file, which is replaced.
    commit_url
        Where a commit is to be seen, with "{commit}" in the place of its hash: "https://host/project/commit/{commit}".

    Raises
    ------
    bench.results.Unreadable
        The results hold nothing that can be compared.
    ValueError
        commit_url is no such address.
    ImportError
        The package that brings the charts is not installed.
    """
    text = page(runs, history, commit_url)
    with replacing(out) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")


def page(runs: Sequence[Run], history: Sequence[Line] = (), commit_url: str = "") -> str:
    """The same as text."""
    scripts = echarts(), "(() => {\n" + "\n".join(_file(f"{name}.js") for name in SCRIPTS) + "})();\n"
    parts = {
        "style": _file("style.css"),
        "data": as_json(page_data(runs, history, commit_url)),
        "charts": scripts[0],
        "script": scripts[1],
        "allowed": " ".join(f"'sha256-{_digest(script)}'" for script in scripts),
    }
    # In one pass, so that no part is searched for marks of another.
    return re.sub(r"<!--(\w+)-->|\{\{(\w+)\}\}", lambda mark: parts[mark[1] or mark[2]], _file("page.html"))


def as_json(data: Any) -> str:
    """JSON that means the same, and can stand in a script element: no name in it ends the element or begins another."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))  # ASCII: neither U+2028 nor half a surrogate pair
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def echarts() -> str:
    """The chart library's minified source, with its licence notice."""
    # Found, not imported: of the package, only this file is wanted.
    spec = importlib.util.find_spec("panel")
    for folder in spec.submodule_search_locations or () if spec else ():
        for path in sorted(Path(folder).glob("dist/bundled/echarts/echarts@*/dist/echarts.min.js")):
            text = path.read_text(encoding="utf-8")
            if "Licensed to the Apache Software Foundation" in text and "</script" not in text.lower():
                return text.strip() + "\n"
    raise ImportError('panel, which brings the charts, is not installed: pip install "fastdl[bench]"')


def _file(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
