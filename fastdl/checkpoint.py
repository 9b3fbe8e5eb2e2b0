"""Checkpoints: all that a training needs to go on as if it had never stopped, in one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fastdl import _files
from fastdl.functional.verbs import fail
from fastdl.nn._layer import RandomLayer
from fastdl.nn.module import Module
from fastdl.optim.lr_scheduler import LRScheduler
from fastdl.optim.optimizer import Optimizer

__all__ = ["load_checkpoint", "save_checkpoint"]

_FORMAT = 1
_ARRAY = "__array__"
"""In place of an array in what is said about arrays: its name."""


def save_checkpoint(
    path: _files.Path,
    *,
    model: Module | Mapping[str, Module] | None = None,
    optimizer: Optimizer | Mapping[str, Optimizer] | None = None,
    schedule: LRScheduler | Mapping[str, LRScheduler] | None = None,
    generators: np.random.Generator | Mapping[str, np.random.Generator] | None = None,
    **extra: Any,
) -> None:
    """Write all that a training needs to go on, to the last bit as if it had never stopped.

    That is: parameters and buffers (running statistics), where the random layers of the model are (dropout), the states
    and options of optimizers, with the number of steps, schedules, and NumPy's generators, from which the order of the
    data follows, say. Not gradients: call it between steps. The mode of a model and what is frozen are the program's.

    The file is written beside its place, brought to disk and put in place in one step, so that there is always a whole
    one. Nothing is pickled.

    Parameters
    ----------
    path : str or path
        `.safetensors` if it is named so, else `.npz`.
    model : Module or dict of Modules, optional
    optimizer : Optimizer or dict of Optimizers, optional
    schedule : LRScheduler or dict of LRSchedulers, optional
    generators : numpy.random.Generator or dict of Generators, optional
        What a generator spawned, and how often, is not in its state.
    **extra
        Whatever else is to be had again, by name: arrays, numbers, str, bool, None, and lists and dicts of these.

    Raises
    ------
    TypeError
        For something else.
    OSError
        If it cannot be written.

    See Also
    --------
    load_checkpoint, save_file

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import fastdl
    >>> from fastdl import nn, optim
    >>> def start():
    ...     net = nn.Sequential(nn.Linear(3, 4, rng=0), nn.Dropout(0.5, seed=1), nn.Linear(4, 2, rng=2))
    ...     return net, optim.Adam(net.parameters()), np.random.default_rng(3)
    >>> path = os.path.join(tempfile.mkdtemp(), "checkpoint.npz")
    >>> net, optimizer, rng = start()
    >>> fastdl.save_checkpoint(path, model=net, optimizer=optimizer, generators=rng, epoch=7)
    >>> net, optimizer, rng = start()
    >>> fastdl.load_checkpoint(path, model=net, optimizer=optimizer, generators=rng)
    {'epoch': 7}
    """
    arrays: dict[str, Any] = {}
    parts = _parts(model, optimizer, schedule, generators)
    about = {
        "format": _FORMAT,
        "parts": {name: _packed(_state(part), name, arrays) for name, part in parts.items()},
        "extra": _packed(extra, "extra", arrays),
    }
    _files.write(path, arrays, about)


def load_checkpoint(
    path: _files.Path,
    *,
    model: Module | Mapping[str, Module] | None = None,
    optimizer: Optimizer | Mapping[str, Optimizer] | None = None,
    schedule: LRScheduler | Mapping[str, LRScheduler] | None = None,
    generators: np.random.Generator | Mapping[str, np.random.Generator] | None = None,
) -> dict[str, Any]:
    """Set what is given to where save_checkpoint left it.

    All of it or, after an error, nothing; into the arrays that there are, so that programs (`record`, `bind`) go on
    from there. Results are the same to the last bit with the same fastdl, instruction-set level and
    settings.

    Parameters
    ----------
    path : str or path
        Of a file that save_checkpoint wrote.
    model, optimizer, schedule, generators : optional
        Made as those that were saved: the same names, shapes and dtypes. What is not given is left out, so that a model
        can be loaded alone.

    Returns
    -------
    dict
        What was saved as `extra`. Tuples have become lists.

    Raises
    ------
    ValueError, TypeError
        For a file that is no checkpoint, or one of other models, optimizers, schedules or generators.
    OSError
        If it cannot be read.

    See Also
    --------
    save_checkpoint
    """
    arrays, about = _files.read(path)
    found = about if isinstance(about, dict) else {}
    stored, extra = _unpacked(found.get("parts"), arrays), _unpacked(found.get("extra"), arrays)
    if found.get("format") != _FORMAT or not isinstance(stored, dict) or not isinstance(extra, dict):
        fail("path", "a file without a checkpoint", f"one that save_checkpoint wrote, of format {_FORMAT}")
    parts = _parts(model, optimizer, schedule, generators)
    roles = {name.partition("/")[0] for name in parts}
    there = [name for name in stored if name.partition("/")[0] in roles]
    if sorted(there) != sorted(parts):
        fail("path", f"a checkpoint with {_files.names(stored) or 'nothing'}", _files.names(parts))
    before: list[tuple[str, Any, Any]] = []
    try:
        for name, part in parts.items():
            before.append((name, part, _state(part)))
            _load(*before[-1][:2], stored[name], before[-1][2])
    except BaseException as error:
        for name, part, state in reversed(before):
            _load(name, part, state, state)
        if isinstance(error, (AttributeError, LookupError)):
            fail("path", f"a checkpoint whose words are not right ({error})", "them as save_checkpoint wrote them")
        raise
    return dict(extra)


def _parts(*given: Any) -> dict[str, Any]:
    """What is to be saved or loaded, by "model", or "model/name" of several."""
    parts: dict[str, Any] = {}
    for (role, kind), value in zip(_KINDS.items(), given, strict=True):
        several = value.items() if isinstance(value, Mapping) else () if value is None else [("", value)]
        for name, part in several:
            if not isinstance(part, kind):
                found = f"{type(part).__name__} as {name!r}" if name else type(part).__name__
                raise TypeError(f"{role}: found {found}, expected {kind.__name__}, or a dict of these by name")
            if not isinstance(name, str):
                raise TypeError(f"{role}: found the name {name!r}, expected a str")
            parts[f"{role}/{name}" if isinstance(value, Mapping) else role] = part
    return parts


_KINDS: dict[str, type[Any]] = {
    "model": Module,
    "optimizer": Optimizer,
    "schedule": LRScheduler,
    "generators": np.random.Generator,
}


def _state(part: Any) -> dict[str, Any]:
    """All that changes of one of them."""
    if isinstance(part, np.random.Generator):
        return {"state": part.bit_generator.state}
    if isinstance(part, Module):
        random = {name: [layer.seed, layer.offset, layer._copies] for name, layer in _random(part)}
        return {"state": part.state_dict(), "random": random}
    return {"kind": type(part).__name__, "state": part.state_dict()}


def _random(model: Module) -> Iterator[tuple[str, RandomLayer]]:
    return ((name, layer) for name, layer in model.named_modules() if isinstance(layer, RandomLayer))


def _load(name: str, part: Any, stored: Any, own: Mapping[str, Any]) -> None:
    """own: the state that `part` is in."""
    if not isinstance(stored, dict) or not all(isinstance(stored.get(k), type(own[k])) for k in own):
        fail(name, "no state", f"that of a {type(part).__name__}, as save_checkpoint writes it")
    state: Any = stored["state"]
    if isinstance(part, np.random.Generator):
        kind = type(part.bit_generator).__name__
        if state.get("bit_generator") != kind:
            fail(name, f"the state of a {state.get('bit_generator')}", f"that of a {kind}")
        part.bit_generator.state = state
    elif isinstance(part, Module):
        _load_model(name, part, state, stored["random"])
    else:
        if stored["kind"] != type(part).__name__:
            fail(name, f"the state of a {stored['kind']}", f"that of a {type(part).__name__}")
        _named(name, part.load_state_dict, state)


def _load_model(name: str, model: Module, state: Any, random: Any) -> None:
    layers = dict(_random(model))
    if random.keys() != layers.keys():
        fail(name, f"random layers {_files.names(random) or 'nowhere'}", _files.names(layers) or "none")
    for key, array in model._state().items():
        if key in state and state[key].dtype != array.dtype:
            fail(name, f"{key!r} of dtype {state[key].dtype}", array.dtype)
    _named(name, model.load_state_dict, state)
    for key, (seed, offset, copies) in random.items():
        layers[key].seed, layers[key].offset, layers[key]._copies = seed, offset, copies


def _named(name: str, load: Callable[[Any], Any], state: Any) -> None:
    """load(state), whose mistakes say of what they are."""
    try:
        load(state)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None


def _packed(value: Any, where: str, arrays: dict[str, Any]) -> Any:
    """A value as JSON has it, its arrays put into `arrays`."""
    if isinstance(value, np.ndarray):
        if where in arrays:
            fail(where, "two arrays of that name", "one")
        arrays[where] = value
        return {_ARRAY: where}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where}: found the key {key!r}, expected a str")
        if _ARRAY in value:
            fail(where, f"the key {_ARRAY!r}", "another")
        return {key: _packed(item, f"{where}/{key}", arrays) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_packed(item, f"{where}/{i}", arrays) for i, item in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"{where}: found {type(value).__name__}, expected arrays, numbers, str, bool, None, lists and dicts"
    )


def _unpacked(value: Any, arrays: Mapping[str, Any]) -> Any:
    """The same the other way round."""
    if isinstance(value, dict):
        if value.keys() == {_ARRAY}:
            name = value[_ARRAY]
            if name not in arrays:
                fail("path", f"no array {name!r}", "that of the checkpoint")
            return arrays[name]
        return {key: _unpacked(item, arrays) for key, item in value.items()}
    return [_unpacked(item, arrays) for item in value] if isinstance(value, list) else value
