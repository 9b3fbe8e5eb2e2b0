"""What makes a list of calls shorter and leaves its results the same, to the last bit. A pass takes a list and returns
another, by what it finds in the list alone, so that all runs of a function are changed alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastdl import _kernels
from fastdl.program.memory import Memory
from fastdl.program.run import SIGNATURES, Call

_PLACES = {kernel: {name: i for i, (_, name, _) in enumerate(rows)} for kernel, rows in SIGNATURES.items()}


def value_of(call: Call, name: str) -> Any:
    """The argument of that name: a number, an address, None."""
    return call.slots[_PLACES[call.kernel][name]][1]


def replaced(call: Call, **values: tuple[str, Any]) -> Call:
    """The call with other arguments."""
    slots = list(call.slots)
    for name, slot in values.items():
        slots[_PLACES[call.kernel][name]] = slot
    return call._replace(slots=slots)


class Uses:
    """Who uses which memory."""

    def __init__(self, calls: list[Call], memory: Memory, kept: frozenset[int]) -> None:
        self.memory, self.kept = memory, kept
        self.by: dict[int, list[tuple[int, bool]]] = {}
        """Of each range, by its start: the calls that use it, and whether they write to it."""
        for at, call in enumerate(calls):
            for use in call.uses:
                self.by.setdefault(memory.at(use.address)[0].start, []).append((at, use.writes))

    def only(self, address: int, size: int, calls: Iterable[int]) -> bool:
        """Whether memory that the program makes, just these bytes, is used by these calls alone."""
        found, offset = self.memory.at(address)
        whole = offset == 0 and found.end - found.start == size and found.made and found.start not in self.kept
        return whole and {at for at, _ in self.by[found.start]} == set(calls)

    def maker(self, address: int, at: int) -> int | None:
        """The only call that writes to the memory, but this one, which comes later; None: there is none, or several."""
        made = [i for i, writes in self.by[self.memory.at(address)[0].start] if writes and i != at]
        return made[0] if len(made) == 1 and made[0] < at else None

    def untouched(self, address: int, first: int, last: int) -> bool:
        """Whether no call between these two uses the memory."""
        return not any(first < at < last for at, _ in self.by[self.memory.at(address)[0].start])

    def unwritten(self, address: int, first: int, last: int) -> bool:
        """Whether no call from one to the other writes to it."""
        return not any(first <= at <= last and w for at, w in self.by[self.memory.at(address)[0].start])


def activations(calls: list[Call], uses: Uses) -> list[Call]:
    """An activation of what a product gives, and nobody else takes, is applied by the product."""
    fused = dict(enumerate(calls))
    for at, call in enumerate(calls):
        if call.kernel != "elementwise" or not call.uses:
            continue
        x, y = value_of(call, "x"), value_of(call, "y")
        first = uses.maker(x, at)
        if first is None or first not in fused:
            continue
        product = fused[first]
        size = next(u.size for u in call.uses if u.name == "x")
        if product.kernel not in ("linear", "conv", "conv_transpose") or product.dtype != call.dtype:
            continue
        if value_of(product, "activation") != _kernels.ACTIVATION_NONE or value_of(product, "y") != x:
            continue
        alone = uses.only(x, size, (first, at)) and uses.untouched(y, first - 1, at)
        whole = next(u.size for u in product.uses if u.name == "y") == size
        if not whole or not (uses.untouched(x, first, at) if y == x else alone):
            continue
        names = ("activation", "alpha", "beta")
        slots = {name: call.slots[_PLACES[call.kernel][name]] for name in names}
        kept = [u for u in product.uses if u.name != "y"] + [u._replace(name="y") for u in call.uses if u.name == "y"]
        fused[first] = replaced(product, y=("p", y), **slots)._replace(uses=kept)
        del fused[at]
    return list(fused.values())


def residuals(calls: list[Call], uses: Uses) -> list[Call]:
    """What is added to what a convolution gives, and was there before it, is added by the convolution."""
    fused = dict(enumerate(calls))
    for at, call in enumerate(calls):
        if call.kernel != "add" or not call.uses:
            continue
        if value_of(call, "alpha") != 1 or value_of(call, "x") == value_of(call, "y"):
            continue
        out = value_of(call, "out")
        for name, other in (("x", "y"), ("y", "x")):
            y, residual = value_of(call, name), next(u for u in call.uses if u.name == other)
            first = uses.maker(y, at)
            if first is None or first not in fused or fused[first].kernel != "conv":
                continue
            conv = fused[first]
            free = value_of(conv, "residual") is None and value_of(conv, "activation") == _kernels.ACTIVATION_NONE
            if not free or value_of(conv, "y") != y or conv.dtype != call.dtype:
                continue
            alone = uses.only(y, residual.size, (first, at)) and uses.unwritten(residual.address, first, at)
            if out in (y, residual.address) or not alone or not uses.untouched(out, first - 1, at):
                continue
            kept = [u for u in conv.uses if u.name != "y"] + [residual._replace(name="residual")]
            kept += [u._replace(name="y") for u in call.uses if u.name == "out"]
            both = replaced(conv, residual=("p", residual.address), y=("p", out))
            fused[first] = both._replace(uses=kept)
            del fused[at]
            break
    return list(fused.values())


def losses(calls: list[Call], uses: Uses) -> list[Call]:
    """A loss and its gradient, of the same inputs, are one call."""
    fused = dict(enumerate(calls))
    same = ("x", "target", "probabilities", "weight", "outer", "classes", "inner", "ignore_index")
    for first, call in enumerate(calls):
        if call.kernel != "cross_entropy" or first not in fused or not call.uses:
            continue
        if value_of(call, "grad_input") is not None:
            continue
        for at in range(first + 1, len(calls)):
            other = calls[at]
            if other.kernel != "cross_entropy" or at not in fused or value_of(other, "loss") is not None:
                continue
            numbers = (*same, "label_smoothing", "reduction")
            if call.dtype != other.dtype or any(value_of(call, n) != value_of(other, n) for n in numbers):
                continue
            inputs = [u.address for u in (*call.uses, *other.uses) if not u.writes]
            grad, start = value_of(other, "grad_input"), value_of(other, "grad_output")
            if not all(uses.unwritten(a, first, at) for a in inputs) or not uses.untouched(grad, first - 1, at):
                continue
            kept = call.uses + [u for u in other.uses if u.name in ("grad_output", "grad_input")]
            fused[first] = replaced(call, grad_input=("p", grad), grad_output=("p", start))._replace(uses=kept)
            del fused[at]
            break
    return list(fused.values())


PASSES: dict[str, Callable[[list[Call], Uses], list[Call]]] = {
    "losses": losses,
    "residuals": residuals,
    "activations": activations,
}


def shorten(calls: list[Call], memory: Memory, kept: frozenset[int], passes: Iterable[str]) -> list[Call]:
    """The list after these passes; kept: the starts of ranges that are returned."""
    for name in passes:
        calls = PASSES[name](calls, Uses(calls, memory, kept))
    for found in memory.ranges:
        at = [i for i, call in enumerate(calls) for u in call.uses if found.start <= u.address < found.end]
        found.first, found.last = (min(at), max(at)) if at else (-1, -1)
    return calls
