"""A bar, where one is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Show = Callable[[float, str], None]


@contextmanager
def bar(wanted: bool | None, epochs: int, label: str = "") -> Iterator[Show]:
    """What shows how many epochs were made, whole or in part, and a line of text. None: where it is a terminal."""
    if wanted is None:
        wanted = sys.stdout.isatty()
    if not wanted:
        yield lambda done, text: None
        return
    try:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    except ImportError as error:
        raise ImportError('rich is not installed: pip install "fastdl[examples]"') from error
    columns: tuple[Any, ...] = (
        *((TextColumn("{task.description}"),) if label else ()),
        TextColumn("epoch {task.fields[epoch]}/{task.total:.0f}"),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task(label, total=epochs, state="", epoch=0)

        def show(done: float, text: str = "") -> None:
            progress.update(task, completed=done, epoch=int(done))
            if text:
                progress.update(task, state=text)

        yield show
