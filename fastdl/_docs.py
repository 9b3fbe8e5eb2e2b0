"""What several docstrings share, written once."""

from __future__ import annotations

import functools
import inspect
import re
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


_PLACE = re.compile(r"\n( *)\{(\w+)\}(?=\n)")  # it begins with what is quick to look for


@functools.cache
def _dedented(text: str) -> str:
    return textwrap.dedent(text).strip("\n")


@functools.cache
def _indented(text: str, indent: str) -> str:
    return f"\n{text}".replace("\n", "\n" + indent).replace("\n" + indent + "\n", "\n\n")


def doc(*shared: Mapping[str, str], **more: str) -> Callable[[Documented], Documented]:
    """Replace each line of the docstring that is ``{name}`` by the text of that name, indented as the line is.

    Text of several lines may hold such lines itself. A name that nothing has, and a text that nothing uses of `more`,
    is a KeyError at import.
    """
    texts = {name: text for part in (*shared, more) for name, text in part.items()}

    def decorate(documented: Documented) -> Documented:
        used: set[str] = set()

        def fill(place: re.Match[str]) -> str:
            indent, name = place.groups()
            used.add(name)
            text = _dedented(texts[name])
            if "{" in text:
                text = _PLACE.sub(fill, f"\n{text}\n")[1:-1]
            return _indented(text, indent)

        documented.__doc__ = _PLACE.sub(fill, f"\n{documented.__doc__ or ''}\n")[1:-1]
        if unused := more.keys() - used:
            raise KeyError(f"{documented.__name__}: nothing in its docstring uses {sorted(unused)}")
        return documented

    return decorate
