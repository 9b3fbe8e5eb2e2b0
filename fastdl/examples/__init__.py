"""Programs that train on real data in seconds: `fastdl train`, or python -m fastdl.examples.<name>.

An example is a module here with a docstring, add_arguments(parser) and run(arguments). It imports what
the extra `examples` installs only inside run, so that `fastdl train` can list it without.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


class MissingExtra(ImportError):
    """A package that an extra would have installed is not there."""


def examples() -> dict[str, ModuleType]:
    """Every example by name."""
    return {m.name: importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)}


@contextmanager
def requires(extra: str) -> Iterator[None]:
    """Imports inside the with block, or an error that says how to get what is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(f'{error.name} is not installed: pip install "fastdl[{extra}]"') from error
