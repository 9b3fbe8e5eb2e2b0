"""The verbs of fastdl/functional/verbs for Numba: the same names in files of the same names, with the same meaning."""

from fastdl.numba.verbs import arrays, classes, errors, lists, scalars, windows  # noqa: F401
