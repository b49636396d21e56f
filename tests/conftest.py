"""What all tests share. The suite needs every framework; a missing one fails instead of being skipped."""

import os
from pathlib import Path

os.environ.setdefault("JAX_ENABLE_X64", "1")  # before the first JAX array: the conformance suite computes in float64
# Each worker has one core. JAX's pool besides: with two threads in it, jaxlib 0.10.2 now and then waits for ever in the
# middle of a long solve of a thousand subjects, every thread idle.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NPROC", "1")
os.environ.setdefault("PJRT_NPROC", "1")
os.environ["WANDB_MODE"] = "offline"

import pytest

from pk_event_fit.tracking import Tracker

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(autouse=True)
def _answered(monkeypatch):
    """A process that W&B left waiting ends without Python's own end; the suite's must not end so in a later test."""
    monkeypatch.setattr(Tracker, "stuck", False)
