"""Training on several processes and machines, by MPI: `pip install "fastdl[mpi]"`. docs/distributed.md shows it."""

from fastdl.distributed.group import Group as Group

__all__ = ["Group"]
