"""For Numba. The error that every mistake in a shape or a value ends in."""

from __future__ import annotations

from numba.extending import overload

from fastdl.functional import verbs


@overload(verbs.fail)
def _fail(argument, found, expected):
    def implementation(argument, found, expected):
        raise ValueError(argument, "found", found, "expected", expected)

    return implementation
