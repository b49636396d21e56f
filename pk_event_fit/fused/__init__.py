"""Our own solver: all intervals of all subjects in one adaptive loop, and the discrete adjoint of its steps."""

from .ivp import Solution, solve_ivp

__all__ = ["Solution", "solve_ivp"]
