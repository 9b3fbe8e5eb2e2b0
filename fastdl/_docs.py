"""What several docstrings share, written once."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Documented = TypeVar("Documented", bound="Callable[..., Any] | type[Any]")


def c_docstring(function: Callable[..., Any]) -> str:
    """The docstring of a function written in C, which begins with its signature, from that of its twin in Python."""
    empty = inspect.Parameter.empty
    signature = inspect.signature(function)
    plain = [parameter.replace(annotation=empty) for parameter in signature.parameters.values()]
    bare = signature.replace(parameters=plain, return_annotation=empty)
    return f"{function.__name__}{bare}\n--\n\n{inspect.getdoc(function) or ''}"


def doc(*shared: Mapping[str, str], **more: str) -> Callable[[Documented], Documented]:
    """Replace each line of the docstring that is ``{name}`` by the text of that name, indented as the line is.

    Text of several lines may hold such lines itself. A name that nothing has, and a text that nothing uses of `more`,
    is a KeyError at import.
    """
    texts = {name: text for part in (*shared, more) for name, text in part.items()}

    def filled(text: str, used: set[str]) -> str:
        lines: list[str] = []
        for line in text.splitlines():
            name = line.strip()
            if not (name.startswith("{") and name.endswith("}") and name[1:-1].isidentifier()):
                lines.append(line)
                continue
            used.add(name[1:-1])
            indent = line[: len(line) - len(line.lstrip())]
            lines += [
                indent + part if part else part
                for part in filled(textwrap.dedent(texts[name[1:-1]]).strip("\n"), used).splitlines()
            ]
        return "\n".join(lines)

    def decorate(documented: Documented) -> Documented:
        used: set[str] = set()
        documented.__doc__ = filled(inspect.cleandoc(documented.__doc__ or ""), used)
        if unused := more.keys() - used:
            raise KeyError(f"{documented.__name__}: nothing in its docstring uses {sorted(unused)}")
        return documented

    return decorate
