"""Programs: a function over fastdl recorded once, and replayed in C.

A function of fastdl ends in calls of the kernels of fastdl.h, whose arguments are addresses, numbers and small structs.
A Program is the list of those calls that one run of ordinary Python code made. Replaying it is a loop in C
(csrc/runtime/program.c): no Python, no allocation, no checks in between.

Recording is dry: kernels do not run, and what they would have written is filled with numbers that mean nothing (huge,
of either sign, tiny, NaN, no two alike). It happens four times with other such numbers, and the lists have to be the
same but for the memory that each run made for itself. Whatever depends on what kernels compute, or on the arguments'
values, then differs: control flow, sizes, numbers that were taken out of an array, arrays that NumPy computed in
between. That is an error which says where. What has to change from call to call lies in memory that kernels read: an
optimizer's number of steps and learning rate, the position of a generator, running statistics.
"""

from fastdl.program.errors import RecordError
from fastdl.program.program import Program
from fastdl.program.record import record
from fastdl.program.recorded import Recorded, recorded

__all__ = ["Program", "RecordError", "Recorded", "record", "recorded"]
