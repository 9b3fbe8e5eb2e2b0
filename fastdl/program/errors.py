"""What cannot be recorded."""


class RecordError(RuntimeError):
    """A function that cannot be recorded as a program, and why."""
