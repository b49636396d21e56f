"""Runs the probe that standard input describes, one turn for each line `go`; writes its JSON file at the end."""

from __future__ import annotations

import importlib
import json
import math
import os
import platform
import signal
import sys
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any

from .. import store, study
from ..errors import ConfigError, PKEventError
from ..provenance import provenance

PROBES = ("exact", "speed", "precision", "stability", "repeat", "train")


def run(order: dict[str, Any]) -> Generator[None, None, dict[str, Any]]:
    """One probe: gives its turn away at each `yield`, and returns what its file is to hold."""
    from .bench import Bench  # imported here: what it costs to import is part of what is measured

    bench = Bench(order)
    content = yield from importlib.import_module(f"{__package__}.{order['probe']}").probe(bench)
    about = provenance(bench.config, bench.cohort.digest)
    environment = {key: about[key] for key in ("cpu", "cores", "threads", "python", "packages", "device", "precision")}
    return {
        "status": "completed",
        "error": None,
        "environment": {**environment, "system": platform.platform()},
        **content,
    }


def main() -> None:
    """Entry of `python -m pk_event_fit.probes`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asked gets it too, and ends this process
    # Whatever prints, in Python or beneath it, must not be taken for a sign.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    order = json.loads(sys.stdin.readline())
    if order["probe"] not in PROBES:
        raise SystemExit(f"there is no probe {order['probe']}")
    about = {name: order[name] for name in ("probe", "variant", "framework", "compiled")}
    about["weights"] = study.weights_of(order)
    work = run(order)
    try:
        while sys.stdin.readline():
            next(work)
            print("turn", file=channel, flush=True)
        return  # whoever asked is gone
    except StopIteration as end:
        content = end.value
    except ConfigError as error:
        content = {"status": "unsupported", "error": _said(error)}
    except PKEventError as error:
        content = {"status": "failed", "error": _said(error)}
    except Exception as error:
        traceback.print_exc()
        content = {"status": "failed", "error": _said(error)}
    store.write_json(Path(order["out"]), _finite({"schema_version": 1, **about, **content}))


def _said(error: BaseException) -> dict[str, str]:
    return {"type": type(error).__name__, "message": " ".join(str(error).split())[:500]}


def _finite(node: Any) -> Any:
    """The same with None for numbers that are none: JSON has no word for them."""
    if isinstance(node, dict):
        return {key: _finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node


if __name__ == "__main__":
    main()
