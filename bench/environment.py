"""What has to be settled before any of the contenders is imported."""

from __future__ import annotations

import os
import sys


def settings(isa: str, threads: int) -> dict[str, str]:
    """Environment variables that keep the peers to an instruction-set level and a number of threads."""
    found = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    found["NPROC"] = str(threads)  # XLA's pool
    found["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
    if isa == "v3":
        found |= {
            "OPENBLAS_CORETYPE": "Haswell",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "ATEN_CPU_CAPABILITY": "avx2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        }
    return found


def hold_to(isa: str, threads: int) -> None:
    """Set them here. Call before importing any of the peers, NumPy included: some read it only then."""
    if isa == "v3" and "numpy" in sys.modules:
        raise RuntimeError("NumPy is loaded already, with the kernels of another level")
    os.environ.update(settings(isa, threads))
