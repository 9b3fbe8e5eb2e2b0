"""What makes a list of calls shorter, or their work less. A pass takes a list and returns another, by what it finds in
the list alone, so that all runs of a function are changed alike. Results stay the same, to the last bit; those of the
passes in FREEZING, which compute with parameters beforehand, to rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from fastdl import _kernels
from fastdl.program.memory import Memory, view
from fastdl.program.run import SIGNATURES, Call, Use

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

    def __init__(self, calls: list[Call], memory: Memory, kept: frozenset[int], constant: frozenset[int]) -> None:
        self.memory, self.kept, self._constant = memory, kept, constant
        self.by: dict[int, list[tuple[int, bool]]] = {}
        """Of each range, by its start: the calls that use it, and whether they write to it."""
        for at, call in enumerate(calls):
            for use in call.uses:
                self.by.setdefault(memory.at(use.address)[0].start, []).append((at, use.writes))
        self._before = [call.prepared for call in calls]
        self.prepared: list[Call] = []
        """Calls that a pass adds to those that are made beforehand."""
        self._made: dict[tuple[Any, ...], list[Use]] = {}

    def of(self, calls: list[Call]) -> Uses:
        """The same of another list."""
        return Uses(calls, self.memory, self.kept, self._constant)

    def only(self, address: int, size: int, calls: Iterable[int]) -> bool:
        """Whether memory that the program makes, just these bytes, is used by these calls alone."""
        found, offset = self.memory.at(address)
        whole = offset == 0 and found.end - found.start == size and found.made and found.start not in self.kept
        return whole and {at for at, _ in self.by[found.start]} == set(calls)

    def maker(self, address: int, at: int) -> int | None:
        """The only call that writes to the memory, but this one, which comes later; None: there is none, or several."""
        made = [i for i, writes in self.by[self.memory.at(address)[0].start] if writes and i != at]
        return made[0] if len(made) == 1 and made[0] < at else None

    def writers(self, address: int, at: int) -> list[int]:
        """The calls before this one that write to the memory."""
        return [i for i, writes in self.by[self.memory.at(address)[0].start] if writes and i < at]

    def untouched(self, address: int, first: int, last: int) -> bool:
        """Whether no call between these two uses the memory."""
        return not any(first < at < last for at, _ in self.by[self.memory.at(address)[0].start])

    def unwritten(self, address: int, first: int, last: int) -> bool:
        """Whether no call from one to the other writes to it."""
        return not any(first <= at <= last and w for at, w in self.by[self.memory.at(address)[0].start])

    def constant(self, address: int | None) -> bool:
        """Whether the memory was there before and no call writes to it, but those that prepare it (None: it is)."""
        if address is None:
            return True
        start = self.memory.at(address)[0].start
        writers = [at for at, writes in self.by[start] if writes]
        return all(self._before[at] for at in writers) and (start in self._constant or bool(writers))

    def prepare(
        self,
        kernel: str,
        dtype: int,
        read: Iterable[Use | None],
        made: Mapping[str, tuple[int, ...]],
        key: tuple[Any, ...] | None = None,
        **values: Any,
    ) -> list[Use]:
        """The arrays `made`, of these shapes, that a call of the kernel writes beforehand: one call for the same arrays
        and numbers (or `key` in place of these)."""
        given = [use for use in read if use is not None]
        same = (kernel, dtype, *((u.name, u.address) for u in given), *(key or values.items()))
        found = self._made.get(same)
        if found is None:
            found = self._made[same] = [self._new(name, shape, dtype) for name, shape in made.items()]
            self.prepared.append(call_of(kernel, dtype, [*given, *found], **values)._replace(prepared=True))
        return [use._replace(writes=False) for use in found]

    def _new(self, name: str, shape: tuple[int, ...], dtype: int) -> Use:
        array = np.empty(shape, (np.float32, np.float64)[dtype])
        address = array.ctypes.data
        found = self.memory.find(address, address + array.nbytes, array, -1)
        found.made = True
        found.wrote = [(0, array.nbytes)]
        return Use(name, address, array.nbytes, shape, True)

    def after_prepared(self, calls: Iterable[Call]) -> list[Call]:
        """All of them, the prepared ones first: those that were, and the new."""
        every = list(calls)
        return [c for c in every if c.prepared] + self.prepared + [c for c in every if not c.prepared]


def call_of(kernel: str, dtype: int, uses: list[Use], **values: Any) -> Call:
    """A call of a kernel: its arrays by name, and its numbers and structs."""
    arrays = {use.name: use.address for use in uses}
    slots: list[tuple[str, Any]] = []
    for type_, name, _ in SIGNATURES[kernel]:
        if name in values:
            value = values[name]
            slots.append(("s" if isinstance(value, tuple) else "d" if type_ == "double" else "i", value))
        else:
            slots.append(("p", arrays.get(name)))
    return Call(kernel, dtype, slots, uses)


def use_of(call: Call, name: str) -> Use | None:
    return next((use for use in call.uses if use.name == name), None)


def constants(calls: list[Call], uses: Uses) -> list[Call]:
    """What is computed from parameters alone is computed beforehand."""
    found: list[Call] = []
    ready: set[int] = set()
    for at, call in enumerate(calls):
        ranges = [uses.memory.at(use.address)[0] for use in call.uses]
        pairs = list(zip(ranges, call.uses, strict=True))
        own = all(
            r.made and r.start not in uses.kept and {i for i, writes in uses.by[r.start] if writes} == {at}
            for r, use in pairs
            if use.writes
        )
        known = all(use.writes or r.start in ready or uses.constant(use.address) for r, use in pairs)
        counts = any(kind == "w" for kind, _ in call.slots)  # random numbers: others at each call
        if pairs and own and known and not counts:
            ready.update(r.start for r, use in pairs if use.writes)
            call = call._replace(prepared=True)
        found.append(call)
    return uses.after_prepared(found)


def norms(calls: list[Call], uses: Uses) -> list[Call]:
    """A normalization by fixed statistics of what a product gives, and nobody else takes, becomes part of the product's
    weight and bias."""
    fused = dict(enumerate(calls))
    for at, call in enumerate(calls):
        if call.kernel != "normalize" or value_of(call, "kind") != _kernels.NORM_FIXED or not call.uses:
            continue
        x, y = use_of(call, "x"), use_of(call, "y")
        statistics = [u for u in call.uses if u.name in ("mean", "rstd")]
        made_by = None if x is None else uses.maker(x.address, at)
        if x is None or y is None or made_by not in fused:
            continue
        if not all(uses.only(u.address, u.size, (at,)) for u in statistics):
            continue  # somebody reads them
        product = fused[made_by]
        if product.kernel not in ("linear", "conv") or product.dtype != call.dtype:
            continue
        given, weight = use_of(product, "y"), use_of(product, "weight")
        if given is None or weight is None or (given.address, given.size) != (x.address, x.size):
            continue
        out, of_product = _channels_of(product)
        parameters = ["fixed_mean", "fixed_var", "weight", "bias"]
        constants = [weight.address, value_of(product, "bias"), *(value_of(call, name) for name in parameters)]
        plain = value_of(product, "activation") == _kernels.ACTIVATION_NONE
        plain = plain and value_of(product, "packed" if product.kernel == "linear" else "residual") in (0, None)
        alone = uses.only(x.address, x.size, (made_by, at)) and uses.untouched(y.address, made_by - 1, at)
        whole = uses.untouched(x.address, made_by, at) if y.address == x.address else alone
        fits = (value_of(call, "groups"), value_of(call, "inner")) == of_product
        if not (plain and whole and fits and all(map(uses.constant, constants))):
            continue
        size = weight.size // (4, 8)[call.dtype]
        renamed = {"fixed_mean": "fixed_mean", "fixed_var": "fixed_var", "weight": "norm_weight", "bias": "norm_bias"}
        read = [weight, use_of(product, "bias")]
        read += [None if (u := use_of(call, name)) is None else u._replace(name=to) for name, to in renamed.items()]
        made = {"fused_weight": (out, size // out), "fused_bias": (out,)}
        sizes = {"out": out, "inner": size // out, "eps": value_of(call, "eps")}
        both = uses.prepare("fuse_norm", call.dtype, read, made, **sizes)
        new = [use._replace(name=name) for use, name in zip(both, ("weight", "bias"), strict=True)] + [y]
        kept = [u for u in product.uses if u.name not in ("weight", "bias", "y")] + new
        slots = {u.name: ("p", u.address) for u in new}
        fused[made_by] = replaced(product, **slots)._replace(uses=kept)
        del fused[at]
    return uses.after_prepared(fused.values())


def _channels_of(product: Call) -> tuple[int, tuple[int, int]]:
    """The results of each sample of a product, and how a norm of its channels sees it: channels, elements of each."""
    if product.kernel == "linear":
        out = value_of(product, "out_features")
        return out, (out, 1)
    window = _kernels.Window(*value_of(product, "window"))
    positions = window.out_depth * window.out_height * window.out_width
    inner = positions if not window.channels_last else 1
    return window.out_channels, (window.out_channels, inner)


def weights(calls: list[Call], uses: Uses) -> list[Call]:
    """Weights that are constant are packed beforehand, where the kernel gains by it."""
    pack = {"linear": _packed_linear, "conv": _packed_conv, "recurrent_cell": _packed_cell}
    changed = [
        pack[call.kernel](call, uses) if call.kernel in pack and call.uses and not call.prepared else call
        for call in calls
    ]
    return uses.after_prepared(changed)


def _packed_linear(call: Call, uses: Uses) -> Call:
    weight = use_of(call, "weight")
    sizes = {name: value_of(call, name) for name in ("in_features", "out_features")}
    if weight is None or value_of(call, "packed") or sizes["in_features"] == 1 or not uses.constant(weight.address):
        return call
    found = np.empty(1, np.int64)
    _kernels.linear_packed_size(view(weight.address, weight.size, call.dtype), found, *sizes.values())
    (packed,) = uses.prepare("linear_pack", call.dtype, [weight], {"packed": (int(found[0]),)}, **sizes)
    kept = [u for u in call.uses if u is not weight] + [packed._replace(name="weight")]
    return replaced(call, weight=("p", packed.address), packed=("i", 1))._replace(uses=kept)


def _packed_cell(call: Call, uses: Uses) -> Call:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    read = [use for use in call.uses if use.name in names]
    sizes = {name: value_of(call, name) for name in ("input", "hidden", "kind")}
    batch, hidden = value_of(call, "batch"), sizes["hidden"]
    small = batch * hidden * (sizes["input"] + hidden) < 1 << 20  # that kernel runs in one thread
    if not small or not all(uses.constant(use.address) for use in read):
        return call
    weight = next(use for use in read if use.name == "weight_hh")
    found = np.empty(1, np.int64)
    _kernels.recurrent_packed_size(view(weight.address, weight.size, call.dtype), found, *sizes.values())
    packed = uses.prepare("recurrent_pack", call.dtype, read, {"packed": (int(found[0]),)}, **sizes)
    kept = [use for use in call.uses if use not in read] + packed
    return call_of("recurrent_step", call.dtype, kept, batch=batch, **sizes)._replace(at=call.at)


def _packed_conv(call: Call, uses: Uses) -> Call:
    weight, words = use_of(call, "weight"), value_of(call, "window")
    if weight is None or not uses.constant(weight.address):
        return call
    window, array = _kernels.Window(*words), view(weight.address, weight.size, call.dtype)
    few = min(window.channels // window.groups, window.out_channels // window.groups) < 16
    if window.channels_last and few and window.kernel_height * window.kernel_width * window.kernel_depth == 1:
        return call  # panels would be mostly empty
    precision, algorithm = value_of(call, "precision"), value_of(call, "algorithm")
    plan, packed_plan = np.array([algorithm, 0, 0, 0]), np.array([algorithm, 0, 0, 0])
    _kernels.conv_plan(array, plan, window, _kernels.TILE_PLAIN, 0, precision)
    _kernels.conv_plan(array, packed_plan, window, _kernels.TILE_ANY, 0, precision)
    tile = int(packed_plan[3])
    if not tile and plan[1] != packed_plan[1]:
        return call  # what is done with plain weights cannot be done with packed ones
    found = np.empty(1, np.int64)
    _kernels.conv_packed_size(array, found, window, tile)
    shape = {"packed": (int(found[0]),)}
    same = (*weight.shape, window.groups, window.channels_last, tile)
    (packed,) = uses.prepare("conv_pack", call.dtype, [weight], shape, same, window=words, packed_tile=tile)
    kept = [u for u in call.uses if u is not weight] + [packed]
    slots = {"weight": ("p", None), "packed": ("p", packed.address), "packed_tile": ("i", tile)}
    return replaced(call, **slots)._replace(uses=kept)


_LEFT_OUT = {
    kernel: frozenset(name for _, name, optional in rows if optional)
    & {"grad_x", "grad_input", "grad_weight", "grad_bias"}
    for kernel, rows in SIGNATURES.items()
}
"""Gradients that kernels need not compute."""


def unused(calls: list[Call], uses: Uses) -> list[Call]:
    """What nobody takes is not computed: whole calls, and gradients that kernels may leave out."""
    needed: list[Call] = []
    live: set[int] = set()
    for call in reversed(calls):
        written = [use for use in call.uses if use.writes]
        found = [uses.memory.at(use.address)[0] for use in written]
        idle = [
            use
            for use, r in zip(written, found, strict=True)
            if r.made and r.start not in live and r.start not in uses.kept
        ]
        if written and len(idle) == len(written):
            continue
        left_out = {use.name for use in idle} & _LEFT_OUT[call.kernel]
        if left_out:
            call = replaced(call, **dict.fromkeys(left_out, ("p", None)))
            call = call._replace(uses=[use for use in call.uses if use.name not in left_out])
        live.update(uses.memory.at(use.address)[0].start for use in call.uses)
        needed.append(call)
    return needed[::-1]


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


def _is_sum(call: Call) -> bool:
    """Whether it adds two arrays of one shape."""
    if call.kernel not in ("add", "arithmetic") or not call.uses or value_of(call, "alpha") != 1:
        return False
    if call.kernel == "arithmetic" and value_of(call, "kind") != _kernels.ARITHMETIC_ADD:
        return False
    sizes = [u.size for u in call.uses if u.name in ("x", "y", "out")]
    return len(sizes) == 3 and len({*sizes}) == 1


def residuals(calls: list[Call], uses: Uses) -> list[Call]:
    """What is added to what a convolution gives, and was there before it, is added by the convolution."""
    fused = dict(enumerate(calls))
    for at, call in enumerate(calls):
        if not _is_sum(call) or value_of(call, "x") == value_of(call, "y"):
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
    """A loss and its gradient, of the same inputs, are one call, where one kernel gives both."""
    fused = dict(enumerate(calls))
    for first, call in enumerate(calls):
        places = _PLACES[call.kernel]
        if first not in fused or not call.uses or not {"loss", "grad_output"} <= places.keys():
            continue
        own = {name for name in places if name.startswith("grad_")}
        if any(value_of(call, name) is not None for name in own):
            continue
        inputs = places.keys() - own - {"loss"}
        for at in range(first + 1, len(calls)):
            other = calls[at]
            if at not in fused or (other.kernel, other.dtype) != (call.kernel, call.dtype):
                continue
            if value_of(other, "loss") is not None or any(value_of(call, n) != value_of(other, n) for n in inputs):
                continue
            added = [use for use in other.uses if use.name in own]
            if not all(uses.unwritten(u.address, first, at) for u in (*call.uses, *added) if not u.writes):
                continue
            if not all(uses.untouched(u.address, first - 1, at) for u in added if u.writes):
                continue
            given = {name: other.slots[places[name]] for name in own}
            fused[first] = replaced(call, **given)._replace(uses=call.uses + added)
            del fused[at]
            break
    return list(fused.values())


_ADDED = {"grad_x": _kernels.ADDED_X, "grad_weight": _kernels.ADDED_WEIGHT, "grad_bias": _kernels.ADDED_BIAS}
_FEW = 256
"""Terms of a product's sum that are one slice on every level, to which what it is added to comes last."""


def sums(calls: list[Call], uses: Uses) -> list[Call]:
    """Gradients of what is used several times are added where they are produced, where that gives the same to the last
    bit."""
    at = 0
    while at < len(calls):
        found = _summed(calls, uses, at) if _is_sum(calls[at]) else None
        if found is None:
            at += 1
        else:
            calls, uses = found, uses.of(found)
    return calls


def _summed(calls: list[Call], uses: Uses, at: int) -> list[Call] | None:
    """The list without this addition, if one of its terms is a gradient that can be added to the other."""
    call = calls[at]
    term = {u.name: u for u in call.uses}
    for own, other in ((term["y"], term["x"]), (term["x"], term["y"])):
        last, to = uses.maker(own.address, at), term["out"].address
        before = uses.writers(other.address, at)
        if last is None or not before or before[-1] >= last or own.address == other.address:
            continue
        maker = calls[last]
        part = next(
            (n for n in _ADDED if maker.kernel == "linear_backward" and value_of(maker, n) == own.address), None
        )
        if part is None or maker.dtype != call.dtype or value_of(maker, "added") & _ADDED[part]:
            continue
        terms = {"grad_x": "out_features", "grad_weight": "rows"}.get(part)
        if (terms and value_of(maker, terms) > _FEW) or not uses.only(own.address, own.size, (last, at)):
            continue
        if to == other.address:
            free = all(uses.untouched(to, i, j) for i, j in zip(before, (*before[1:], at), strict=True))
        else:
            free = uses.only(other.address, other.size, (*before, at)) and uses.untouched(to, before[0] - 1, at)
        moved = {i: _moved(calls[i], other.address, to) for i in before}
        if not free or None in moved.values():
            continue
        added = _moved(maker, own.address, to)
        if added is not None:
            moved[last] = replaced(added, added=("i", value_of(maker, "added") | _ADDED[part]))
            return [c for i, old in enumerate(calls) if i != at and (c := moved.get(i, old))]
    return None


def _moved(call: Call, address: int, to: int) -> Call | None:
    """The call with the array that it writes to elsewhere; None: it is more than one, or not all that is written."""
    own = [u for u in call.uses if u.address == address]
    if len(own) != 1 or not own[0].writes or call.slots[_PLACES[call.kernel].get(own[0].name, 0)] != ("p", address):
        return None
    kept = [u._replace(address=to) if u is own[0] else u for u in call.uses]
    return replaced(call, **{own[0].name: ("p", to)})._replace(uses=kept)


PASSES: dict[str, Callable[[list[Call], Uses], list[Call]]] = {
    "unused": unused,
    "losses": losses,
    "constants": constants,
    "norms": norms,
    "residuals": residuals,
    "sums": sums,
    "activations": activations,
    "weights": weights,
}
FREEZING = frozenset({"constants", "norms", "weights"})
"""Those for which parameters have to be frozen."""


def shorten(
    calls: list[Call], memory: Memory, kept: frozenset[int], constant: frozenset[int], passes: Iterable[str]
) -> list[Call]:
    """The list after these passes; kept: the starts of ranges that are not the program's own; constant: of those of
    them, the ones that were there before."""
    for name in passes:
        calls = PASSES[name](calls, Uses(calls, memory, kept, constant))
    before = sum(call.prepared for call in calls)
    for found in memory.ranges:
        found.first = found.last = -1
    for i, call in enumerate(calls):
        for use in call.uses:
            found, _ = memory.at(use.address)
            found.first, found.last = found.first if found.first >= 0 else i, i
    for found in memory.ranges:
        if 0 <= found.first < before <= found.last:
            found.last = len(calls)  # prepared: it stays, also where the calls before it are made again
    return calls
