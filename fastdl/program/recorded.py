"""One program for each combination of shapes and dtypes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from fastdl._call import get_recorder
from fastdl.functional.verbs import integer
from fastdl.program.program import Program
from fastdl.program.record import record


class Recorded:
    """What recorded returns."""

    def __init__(self, function: Callable[..., Any], limit: int, options: dict[str, Any]) -> None:
        self.function, self.limit, self._options = function, limit, options
        self.programs: OrderedDict[Any, Program] = OrderedDict()
        """Those that there are, the one used last at the end."""

    def __call__(self, *arguments: Any) -> Any:
        """What the function would return."""
        recorder = get_recorder()
        if recorder is not None:
            if self._options.get("freeze"):
                recorder.approximate()
            return self.function(*arguments)
        return self.program(*arguments)(*arguments)

    def program(self, *arguments: Any) -> Program:
        """The program for arguments like these, which is recorded if there is none yet."""
        if all(type(a) is np.ndarray for a in arguments):
            key: Any = tuple([(a.shape, a.dtype) for a in arguments])
        else:
            key = _key_of(arguments)
        found = self.programs.get(key)
        if found is None or found.stale:
            found = self.programs[key] = record(self.function, *arguments, **self._options)
            while len(self.programs) > self.limit:
                self.programs.popitem(last=False)
        self.programs.move_to_end(key)
        return found

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        return f"<{name}, recorded for {len(self.programs)} of at most {self.limit} combinations of shapes>"


def _key_of(value: Any) -> Any:
    """What tells nests of arguments apart."""
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype
    if isinstance(value, (tuple, list)):
        return type(value), tuple(map(_key_of, value))
    if isinstance(value, dict):
        return dict, tuple((repr(name), _key_of(item)) for name, item in value.items())
    return type(value), repr(value)


def recorded(function: Callable[..., Any], *, limit: int = 8, **options: Any) -> Recorded:
    """A function that records itself for each combination of shapes and dtypes that it is called with.

    Parameters
    ----------
    function : callable
        As record takes it. This may be used as a decorator.
    limit : int
        How many programs are kept, at least 1; beyond that the one that was not used for the longest is dropped.
    **options
        As record takes them.

    Returns
    -------
    Recorded
        Called like the function. `programs` are those that there are, `program(*arguments)` is the one for arguments
        like these.

    See Also
    --------
    record : One program.

    Examples
    --------
    The last batch of an epoch is often smaller:

    >>> import numpy as np, fastdl
    >>> double = fastdl.recorded(lambda x: fastdl.add(x, x), limit=2)
    >>> double(np.ones(3, np.float32)), double(np.ones(2, np.float32)), len(double.programs)
    (array([2., 2., 2.], dtype=float32), array([2., 2.], dtype=float32), 2)
    """
    if not callable(function):
        raise TypeError(f"function: found {type(function).__name__}, expected a function")
    return Recorded(function, integer(limit, "limit", 1), options)
