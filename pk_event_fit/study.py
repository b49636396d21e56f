"""What a sweep measures beside its fits: probes, each framework's in a fresh process, in which they take turns."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as default
from pathlib import Path
from typing import Any

from . import store
from .errors import ConfigError

PROBES = ("speed", "precision", "stability", "repeat")
PATIENCE = 900.0  # seconds that a probe may take until its next turn; a fit's solver has its own limits within that


@dataclass(kw_only=True)
class Study:
    """What is compared, and what is measured beside the fits.

    Attributes:
        frameworks: Those to sweep over, where the command line names none.
        seeds: Seeds to sweep over, likewise.
        cross_validate: Whether to sweep over `data.folds` too, likewise: a fit that leaves nobody out, and one without
            each of the parts. The sweep ends with an evaluation of both, and a page that tells of all of it.
        at_once: Jobs of a sweep that run side by side; give each its share of the cores by `accelerator.threads`.
        compiled: Frameworks to have a row of their own with `accelerator.compile=true`, fitted with the first seed.
        probes: `speed`, `precision`, `stability`, `repeat`; none for an ordinary run.
        rounds: Repeats of every timed block; in each round the frameworks take turns.
        calls: Calls in a timed block.
        iterations: Training steps of the fits that are repeated.

    Raises:
        ConfigError: A value is out of range, or there is no such probe.
    """

    frameworks: list[str] = default(default_factory=list)
    seeds: list[int] = default(default_factory=list)
    cross_validate: bool = False
    at_once: int = 1
    compiled: list[str] = default(default_factory=list)
    probes: list[str] = default(default_factory=list)
    rounds: int = 5
    calls: int = 10
    iterations: int = 20

    def __post_init__(self):
        for name, low in (("rounds", 5), ("calls", 1), ("iterations", 1), ("at_once", 1)):
            if not low <= getattr(self, name) <= 1_000_000:
                raise ConfigError(f"study.{name}={getattr(self, name)}: must be {low} or more")
        if len(set(self.compiled)) < len(self.compiled) or {"diffrax", "fused"}.intersection(self.compiled):
            raise ConfigError(
                f"study.compiled={self.compiled}: needs different names; diffrax and fused are always compiled"
            )
        if self.probes and self.at_once > 1:
            raise ConfigError(
                f"study.at_once={self.at_once}: what is compared runs alone; leave it 1 with study.probes"
            )
        for probe in self.probes:
            if probe not in PROBES:
                raise ConfigError(f"study.probes: there is no {probe}; choose of {', '.join(PROBES)}")


class Contestant:
    """A probe of one variant in a process of its own, which works only when it is its turn.

    Args:
        order: What to measure, as `pk_event_fit.probes` takes it.
    """

    def __init__(self, order: Mapping[str, Any]):
        self.order, self.over, self._silent = order, False, False
        command = [sys.executable, "-m", "pk_event_fit.probes"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._say(json.dumps(order))

    def turn(self) -> bool:
        """Let it work until it gives the turn away; False once it is done, however it ended."""
        self._say("go")
        try:
            while (line := self._lines.get(timeout=PATIENCE)) not in ("turn\n", ""):
                pass  # not ours
            self.over = line == ""
        except queue.Empty:
            self._process.kill()
            self.over = self._silent = True
        if self.over:
            self._process.wait()
            self._note_silent_end()
        return not self.over

    def stop(self) -> None:
        """End it, whatever it is doing."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _say(self, line: str) -> None:
        try:
            self._process.stdin.write(line + "\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
        except OSError:
            pass  # it has ended, which `turn` will see

    def _listen(self) -> None:
        for line in self._process.stdout:  # type: ignore[union-attr]
            self._lines.put(line)
        self._lines.put("")

    def _note_silent_end(self) -> None:
        out = Path(self.order["out"])
        if not out.exists():
            code = self._process.returncode
            why = f"no sign of life for {PATIENCE:.0f} s" if self._silent else f"the process ended with code {code}"
            about = {name: self.order[name] for name in ("probe", "variant", "framework", "compiled")}
            failed = {"status": "failed", "error": {"type": "Ended", "message": why}}
            store.write_json(out, {"schema_version": 1, **about, **failed})


def take_turns(orders: Sequence[Mapping[str, Any]]) -> None:
    """Run probes side by side, one at work at a time: first all prepare, then each round goes through all of them.

    Every other round goes backwards, so that nobody always works in the warmth, or the wake, of the same other.
    """
    contestants: list[Contestant] = []
    try:
        for order in orders:
            print(f"probe  {order['probe']}: {order['variant']}", flush=True)
            contestants.append(Contestant(order))
            contestants[-1].turn()
        while at_work := [one for one in contestants if not one.over]:
            for one in at_work:
                one.turn()
            contestants.reverse()
    finally:
        for one in contestants:
            one.stop()


def weights_of(order: Mapping[str, Any]) -> str | None:
    """The job of the sweep whose weights a probe is made with; None for initial ones."""
    return Path(order["weights"]).parent.name if order["weights"] else None


def told(path: Path) -> dict[str, Any]:
    """What a JSON file says; nothing where it is missing or damaged."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def is_over(path: Path) -> bool:
    """Whether a job's or a probe's file tells of an end to which it would come again.

    That is not so of an interrupt, of a full disk or memory, or of a library that is not installed.
    """
    content = told(path)
    error = content.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    status = content.get("status")
    return status == "completed" or (status == "failed" and kind in ("SolverFailure", "TrainingFailure"))


def _is_there(order: Mapping[str, Any]) -> bool:
    # Measured with other weights where an earlier fit has come to its end since.
    out = Path(order["out"])
    return is_over(out) and told(out).get("weights", weights_of(order)) == weights_of(order)


def _clear(orders: Sequence[Mapping[str, Any]]) -> None:
    """Remove what they left before, which would pass for new if they were cut off."""
    for order in orders:
        for name in (order["out"], Path(order["out"]).with_suffix(".npz")):
            Path(name).unlink(missing_ok=True)


def measure(sweep: Path, config: Mapping[str, Any], variants: Mapping[str, tuple[str, bool]], weights: Path | None):
    """Run every probe that the config asks for; each writes `probes/<probe>/<variant>.json` below the sweep's folder.

    Args:
        sweep: Its folder.
        config: A job's config as a dictionary; framework and compilation are replaced.
        variants: Framework and whether it is compiled, by variant.
        weights: Weights file to measure with, the same for all; None for the initial weights of the config's seed.
    """
    study, folder = config["study"], sweep / "probes"

    def order(probe: str, variant: str, name: str | None = None, **more: Any) -> dict[str, Any]:
        framework, compiled = variants[variant] if name is None else (name, False)
        chosen = config.get("framework", {})  # whose settings are of no other
        own = {**config, "framework": {**(chosen if chosen.get("name") == framework else {}), "name": framework}}
        own["accelerator"] = {**config["accelerator"], "compile": compiled}
        out = Path(more.pop("out", folder / probe / f"{variant}.json"))
        out.parent.mkdir(parents=True, exist_ok=True)
        about = {"probe": probe, "variant": variant, "framework": framework, "compiled": compiled, "config": own}
        return {
            **about,
            "out": str(out),
            "exact": str(folder / "exact.npz"),
            "weights": weights and str(weights),
            **more,
        }

    plain = [variant for variant, (_, compiled) in variants.items() if not compiled]
    asked = {name: [order(name, variant) for variant in (variants if name == "speed" else plain)]
             for name in PROBES if name in study["probes"]}  # fmt: skip
    # Each alone: two that thread their work on the same cores would hinder each other.
    for each in (*asked.get("repeat", ()), *asked.get("stability", ())):
        if not _is_there(each):
            _clear([each])
            take_turns([each])
    if "speed" in asked and not _is_there(exact := order("exact", "exact", "diffrax", out=folder / "exact.json")):
        _clear([exact, *asked["speed"]])  # whose gradients it is compared with
        take_turns([exact])
    for name in ("speed", "precision"):
        # What is compared takes turns: where one is missing, all are measured again.
        if not all(_is_there(each) for each in asked.get(name, ())):
            _clear(asked[name])
            take_turns(asked[name])


def variant_of(framework: str | None, compiled: bool) -> str:
    """The name of a row: the framework's, or that and `-compiled`."""
    return f"{framework}-compiled" if compiled else str(framework)
