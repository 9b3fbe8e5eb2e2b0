"""What every operation is tried and timed on: one file a family, each a list of filled-in `declare` forms.

A new operation needs its forms here and nothing else: the tests against the reference, finite differences, torch and
Numba, and the benchmarks, all go through `all_cases`.
"""

from tests.cases import (
    activation,
    arithmetic,
    arrays,
    attention,
    conv,
    linear,
    loss,
    matmul,
    normalization,
    optim,
    padding,
    policy,
    pooling,
    recurrent,
    reduction,
    regularization,
    resize,
)
from tests.cases.case import Case, Expected, declare, results

__all__ = ["Case", "Expected", "all_cases", "declare", "results"]


def all_cases(operation: str | None = None, tag: str | None = None) -> list[Case]:
    """Every case, or those of one operation or with one tag.

    Tags: "bench", worth timing; "large", too long for an everyday test; "special", holds NaN, infinities or ties,
    where there is no derivative to take differences of; "padding-only", has windows that miss the image;
    "far", a mean far larger than the deviation; "empty", no elements;
    "not-in-torch", something that torch refuses or does not have;
    "batch8", ResNet-50's shapes for thread scaling; "vgg16", "mobilenet_v2", those networks' shapes;
    "grid", small sizes for comparisons.
    """
    families = (
        *(activation, arithmetic, arrays, attention, reduction, matmul, linear, conv, pooling, padding),
        *(loss, optim, regularization, normalization, recurrent, policy, resize),
    )
    cases = [case for family in families for form in family.CASES for case in (form, form.backward) if case]
    return [c for c in cases if operation in (None, c.operation) and (tag is None or tag in c.tags)]
