"""Makes fastdl's threads known to threadpoolctl, so that whoever limits all libraries' threads limits these too.

threadpoolctl is not imported for that: if it is not there yet, the import of it is waited for.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any


def _register(threadpoolctl: Any) -> None:
    import fastdl

    class FastdlController(threadpoolctl.LibController):  # type: ignore[misc]
        """fastdl's threads."""

        user_api = "fastdl"
        internal_api = "fastdl"
        filename_prefixes = ("_native",)
        check_symbols = ("PyInit__call",)

        def get_num_threads(self) -> int:
            return fastdl.get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            fastdl.set_num_threads(num_threads)

        def get_version(self) -> str:
            return fastdl.__version__

    if hasattr(threadpoolctl, "register"):  # since 3.3
        threadpoolctl.register(FastdlController)


class _Waiting:
    """Finds threadpoolctl as everybody else does, and registers the controller after its import."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if name != "threadpoolctl":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _register(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def announce() -> None:
    if "threadpoolctl" in sys.modules:
        _register(sys.modules["threadpoolctl"])
    else:
        sys.meta_path.insert(0, _Waiting())
