"""The C sources: arrows between files point down, and a family of kernels knows no other.

Who calls whom is read from the text: what a file defines that others may call, and which of those names stand in
other files, apart from comments, declarations and strings.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[1] / "csrc"
LAYERS = ["runtime", "vector", "product", "kernels", "binding"]
"""A folder may include its own headers and those of the folders before it; binding is over everything."""
GENERATED = {"names.h", "dispatch_table.h", "call_table.h", "program_table.h", "fastdl.h"}

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
_STRING = re.compile(r'"(?:\\.|[^"\\\n])*"')
_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
_DEFINED = re.compile(r"^(?!static\b|FDL_INLINE|typedef\b|else\b|return\b)[\w*][\w *\n]*?\b(\w+)\([^;{}]*\)\s*\{", re.M)
_ALIAS = re.compile(r"^\s*#define (\w+) (\w+)$", re.M)


def code(text: str) -> str:
    return _COMMENT.sub(" ", text)


def files() -> dict[str, str]:
    """Path below csrc: its text without comments."""
    found = {str(p.relative_to(SOURCES)): code(p.read_text()) for p in sorted(SOURCES.rglob("*.[ch]"))}
    assert len(found) > 40
    return found


def units(sources: dict[str, str]) -> dict[str, str]:
    """Each .c file with the text of the headers beside it that are a template: those that define what others call."""
    templates = {name for name, text in sources.items() if name.endswith(".h") and _DEFINED.search(text)}
    joined = {}
    for name, text in sources.items():
        if name.endswith(".c"):
            parts = [sources[include] for include in _INCLUDE.findall(text) if include in templates]
            joined[name] = "\n".join([text, *parts])
    return joined


def definitions(text: str) -> set[str]:
    """Functions that others may call. A template's are named by a macro, one for each of the files that it makes."""
    names = set(_DEFINED.findall(text))
    aliases = defaultdict(list)
    for alias, name in _ALIAS.findall(text):
        aliases[alias].append(name)
    return {n for name in names for n in aliases.get(name, [name])}


def arrows() -> dict[str, set[str]]:
    """Which files each file calls functions of."""
    texts = units(files())
    tile = {"2x2": "WINOGRAD_TILE 2", "3x3": "WINOGRAD_TILE 3"}
    owners: dict[str, str] = {}
    for unit, text in texts.items():
        for name in definitions(text):
            mine = [size for size in tile if size in name]
            if mine and "winograd_forward.h" in sources_of(unit) and tile[mine[0]] not in text:
                continue  # another of the template's files
            owners[name] = unit
    assert len(owners) > 100
    calls: dict[str, set[str]] = {}
    for unit, text in texts.items():
        own = definitions(text)
        words = set(re.findall(r"\b\w+\b", _STRING.sub('""', re.sub(r"^\s*#.*$", "", text, flags=re.M))))
        calls[unit] = {owners[w] for w in words & owners.keys() - own if owners[w] != unit}
    return calls


def sources_of(unit: str) -> str:
    return (SOURCES / unit).read_text()


def circles(calls: dict[str, set[str]]) -> list[list[str]]:
    """Sets of more than one file from each of which there is a way to each other (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for to in calls.get(node, ()):
            if to not in index:
                visit(to)
                low[node] = min(low[node], low[to])
            elif to in stack:
                low[node] = min(low[node], index[to])
        if low[node] == index[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for node in calls:
        if node not in index:
            visit(node)
    return found


def layer(path: str) -> str:
    return path.split("/")[0]


def family(path: str) -> str:
    """The folder of a family, or the file of one that has no folder."""
    parts = path.split("/")
    return parts[1] if len(parts) > 2 else Path(parts[-1]).stem


def test_no_files_call_each_other_in_a_circle() -> None:
    assert circles(arrows()) == []


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_calls_point_down() -> None:
    wrong = [
        f"{unit} calls {to}"
        for unit, called in arrows().items()
        for to in called
        if LAYERS.index(layer(to)) > LAYERS.index(layer(unit))
    ]
    assert wrong == []


@pytest.mark.parametrize("path", [path for path in files() if "/" in path])
def test_includes_point_down(path: str) -> None:
    for include in _INCLUDE.findall(files()[path]):
        if include in GENERATED:
            continue
        assert (SOURCES / include).exists(), f"{path}: includes {include!r}, which is not a path from csrc/"
        assert LAYERS.index(layer(include)) <= LAYERS.index(layer(path)), f"{path} includes {include}"


def test_families_know_no_other() -> None:
    sources = files()
    wrong = [f"{unit} calls {to}" for unit, called in arrows().items() for to in called if strangers(unit, to)]
    wrong += [
        f"{path} includes {to}" for path in sources for to in _INCLUDE.findall(sources[path]) if strangers(path, to)
    ]
    assert wrong == []


def strangers(path: str, other: str) -> bool:
    return layer(path) == layer(other) == "kernels" and family(path) != family(other)
