"""Types for annotations of code that uses fastdl."""

from fastdl.functional.verbs import Array, ArrayLike

__all__ = ["Array", "ArrayLike"]
