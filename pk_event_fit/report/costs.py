"""What another way to the gradient costs, as sentences: the adjoint, and compiling."""

from __future__ import annotations

from ..metrics.statistics import Ratio
from .measures import Evidence
from .series import MODES
from .setting import listed
from .standing import LEVEL, compare


def adjoint_cost(evidence: Evidence) -> str:
    """What the adjoint gradient costs against the direct one, and how much more it errs, library by library."""
    found, n = _adjoint(evidence), evidence.numbers
    if not found:
        return "What the adjoint gradient costs against the direct one was not measured."
    words = []
    for variant, (ratio, errors) in found.items():
        time = f"{n.ratio(ratio.ratio, ratio.low or 0, ratio.high or 0)} times the time"
        words.append(f"{variant}: {time}, error {n(errors[1])} against {n(errors[0])}")
    return f"Time with its {n.percent(LEVEL)} interval, and relative error. {'; '.join(words)}."


def adjoint_brief(evidence: Evidence) -> str:
    """The same in short: in which libraries the adjoint gradient is slower, and in which it errs more."""
    found, n = _adjoint(evidence), evidence.numbers
    if not found:
        return "What the adjoint gradient costs against the direct one was not measured."
    cases: dict[str, list[str]] = {}
    for variant, (ratio, _) in found.items():
        low, high = ratio.low or 0, ratio.high or 0
        case = "no faster and no slower" if low <= 1 <= high else "slower" if low > 1 else "faster"
        cases.setdefault(case, []).append(f"{variant} ({n(ratio.ratio)} times the time)")
    known = {v: (e[0], e[1]) for v, (_, e) in found.items() if e[0] is not None and e[1] is not None}
    worse = [variant for variant, (direct, adjoint) in known.items() if adjoint > direct]
    errs = f" It errs more than the direct one in {listed(worse)}." if worse else ""
    return f"The adjoint gradient is {'; '.join(f'{case} in {listed(names)}' for case, names in cases.items())}.{errs}"


def _adjoint(evidence: Evidence) -> dict[str, tuple[Ratio, list[float | None]]]:
    """By variant: time of the adjoint gradient over that of the direct one at the same points; both errors."""
    found = {}
    for variant in evidence.frameworks:
        direct, adjoint = (evidence.one(variant, "gradient", mode) for mode in MODES[1:])
        ratio = compare(adjoint, direct) if adjoint and direct else None
        if ratio is not None and ratio.low is not None:
            found[variant] = (ratio, [evidence.mean(variant, "gradient_error", mode) for mode in MODES[1:]])
    return found


def compiled_gain(evidence: Evidence, variant: str) -> tuple[str, bool] | None:
    """What compiling brings a library's training step, and whether it is quicker; None where it was not measured."""
    plain, fast = evidence.one(variant, "step", MODES[0]), evidence.one(f"{variant}-compiled", "step", MODES[0])
    found = compare(fast, plain) if fast and plain else None
    if found is None or found.low is None or found.high is None:
        return None
    n = evidence.numbers
    times = f"{n.ratio(found.ratio, found.low, found.high)} times that of the plain one"
    if found.low <= 1 <= found.high:
        return f"Whether compiling changes its training step cannot be told: {times}.", False
    return f"Compiled, its training step takes {times}.", found.high < 1
