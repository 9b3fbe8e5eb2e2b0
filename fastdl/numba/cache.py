"""What makes Numba compile anew what was compiled and cached with another fastdl.

Numba's cache knows the source of a user's function, and nothing of what it calls. But with a function it stores the
environments of all modules that are linked into it, and unpickles them when it loads the function. So each module
that calls fastdl has an environment which says for what it was compiled; unpickled by another fastdl it raises
OSError, which the cache takes for a file that is gone."""

from __future__ import annotations

import hashlib
from functools import cache as once
from pathlib import Path
from typing import Any

from numba.core.environment import Environment

import fastdl
from fastdl import _kernels


@once
def fingerprint() -> str:
    """The library's version, the declarations of all kernels, and the sources that bodies are read from."""
    digest = hashlib.sha256(repr((fastdl.__version__, _kernels.SIGNATURES)).encode())
    folder = Path(fastdl.__file__).parent
    for part in ("functional", "numba", "optim"):
        for path in sorted((folder / part).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


FINGERPRINT = fingerprint()


class _Stamp:
    """Pickled with compiled code."""

    def __reduce__(self) -> Any:
        return _expect, (FINGERPRINT,)


def _expect(found: str) -> _Stamp:
    if found != FINGERPRINT:
        raise OSError("compiled with another version of fastdl")
    return _Stamp()


_NAME = f"_ZN08NumbaEnv6fastdl{FINGERPRINT}"
_environment = Environment(globals())
_environment.env_name = _NAME
_environment.consts.append(_Stamp())
Environment._memo[_NAME] = _environment


def mark(context: Any, module: Any) -> None:
    """Have a module say for what it was compiled."""
    if _NAME not in module.globals:
        context.declare_env_global(module, _NAME)
