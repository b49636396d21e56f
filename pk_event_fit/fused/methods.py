"""Explicit Runge-Kutta methods whose last stage is the next step's first, and their dense outputs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Method(NamedTuple):
    r"""A method of E stages.

    Stage $j$ is $k_j = f(t + c_j h, y + h \sum_{i<j} a_{ji} k_i)$. The last is taken at the end of the step: its row of
    `a` is the solution's weights, and in the next step it is the first.

    Attributes:
        order: Of the solution; the error estimate's is one less.
        a: `[E, E]`, lower triangle.
        c: `[E]`.
        error: Weights of the error estimate, `[E]`.
        dense: Of $y(t + \theta h) = y + h \sum_j k_j \sum_m \mathrm{dense}_{jm} \theta^m$, m from 1 to 4, `[E, 4]`.
    """

    order: int
    a: np.ndarray
    c: np.ndarray
    error: np.ndarray
    dense: np.ndarray

    @property
    def trials(self) -> int:
        """Evaluations that a trial takes: the first stage is known."""
        return len(self.c) - 1


def _lower(*rows: list[float]) -> np.ndarray:
    full = np.zeros((len(rows) + 1, len(rows) + 1))
    for k, row in enumerate(rows):
        full[k + 1, : len(row)] = row
    return full


def _quartic(weights: np.ndarray, middle: np.ndarray) -> np.ndarray:
    r"""The dense output that agrees with both ends, their slopes, and $y + h \sum_j m_j k_j$ in the middle."""
    first, last = np.eye(len(weights))[[0, -1]]
    powers = (
        first,
        last - 4 * first - 5 * weights + 16 * middle,
        5 * first - 3 * last + 14 * weights - 32 * middle,
        2 * (last - first) - 8 * weights + 16 * middle,
    )
    return np.stack(powers, 1)


def _dopri5() -> Method:
    """Dormand & Prince 1980; the embedded solution and the middle are Shampine's (1986)."""
    a = _lower(
        [1 / 5],
        [3 / 40, 9 / 40],
        [44 / 45, -56 / 15, 32 / 9],
        [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
        [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
        [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
    )
    embedded = np.array([1951 / 21600, 0, 22642 / 50085, 451 / 720, -12231 / 42400, 649 / 6300, 1 / 60])
    middle = np.array([
        6025192743 / 30085553152, 0, 51252292925 / 65400821598, -2691868925 / 45128329728,
        187940372067 / 1594534317056, -1776094331 / 19743644256, 11237099 / 235043384,
    ])  # fmt: skip
    c = np.array([0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1])
    return Method(5, a, c, a[-1] - embedded, _quartic(a[-1], middle / 2))


def _tsit5() -> Method:
    """Tsitouras 2011; the first column of `a` follows from c."""
    c = np.array([0, 0.161, 0.327, 0.9, 0.9800255409045097, 1, 1])
    a = _lower(
        [0],
        [0, 0.3354806554923570],
        [0, -6.359448489975075, 4.362295432869581],
        [0, -11.74888356406283, 7.495539342889836, -0.09249506636175525],
        [0, -12.92096931784711, 8.159367898576159, -0.07158497328140100, -0.02826905039406838],
        [0, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774],
    )
    a[:, 0] = c - a.sum(1)
    embedded = np.array([
        -0.001780011052226, -0.000816434459657, 0.007880878010262, -0.144711007173263, 0.582357165452555,
        -0.458082105929187, 1 / 66,
    ])  # fmt: skip
    dense = np.array([
        [1, -2.763706197274826, 2.9132554618219126, -1.0530884977290216],
        [0, 0.1317, -0.2234, 0.1017],
        [0, 3.9302962368947516, -5.941033872131505, 2.490627285651253],
        [0, -12.411077166933676, 30.33818863028232, -16.548102889244902],
        [0, 37.50931341651104, -88.1789048947664, 47.37952196281928],
        [0, -27.896526289197286, 65.09189467479366, -34.87065786149661],
        [0, 1.5, -4, 2.5],
    ])  # fmt: skip
    return Method(5, a, c, embedded, dense)


METHODS = {"dopri5": _dopri5(), "tsit5": _tsit5()}
