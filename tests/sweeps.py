"""A comparison sweep made by hand: every file that a real one leaves, with plausible numbers, in under a second."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import yaml

from pk_event_fit import compartments, store
from pk_event_fit.config import Config

FRAMEWORKS = ("diffrax", "torchdiffeq", "torchdyn", "torchode")
COMPILED = ("torchdiffeq", "torchdyn", "torchode")
PROBES = ("speed", "precision", "stability", "repeat")
STEP_MS = {"diffrax": 26.0, "torchode": 115.0, "torchdiffeq": 130.0, "torchdyn": 155.0, "fused": 11.0}
BASELINE_MB = {"diffrax": 290.0, "torchode": 330.0, "torchdiffeq": 310.0, "torchdyn": 520.0, "fused": 285.0}
IMPORT_S = {"diffrax": 1.1, "torchode": 2.0, "torchdiffeq": 1.7, "torchdyn": 4.6, "fused": 0.8}
COMPILE_S = {"diffrax": 2.9, "torchode": 0.2, "torchdiffeq": 0.05, "torchdyn": 0.06, "fused": 3.4}
ACCURATE = {"diffrax": 1.0, "torchode": 1.3, "torchdiffeq": 6.0, "torchdyn": 9.0, "fused": 0.8}
JUMPS = {"diffrax": "jump_ts", "torchdiffeq": "jump_t"}
MISSES = ("torchdyn", "torchode")  # these step over a narrow infusion that they are told nothing of
# Backward over forward time, and error.
GRADIENTS = {"direct": (2.6, 3e-6), "direct_few": (2.6, 3e-6), "adjoint": (4.1, 8e-4)}
INFUSION_H = 0.01
CPU = "Fictitious Processor 3000"
PACKAGES = {"diffrax": "0.7.0", "jax": "0.7.2", "torch": "2.9.0", "torchdiffeq": "0.2.5", "torchode": "1.0.1"}


def make(
    folder, *, frameworks=FRAMEWORKS, compiled=COMPILED, seeds=2, iterations=200, rounds=5, subjects=6, points=20,
    probes=PROBES, experiment="framework_comparison", plan=True, held_out=True,
):  # fmt: skip
    """Write a complete sweep: plain fits in numbered folders, then a compiled one of each with the first seed.

    Args:
        folder: Where; made if need be.
        frameworks: Their names; an invented one is as good.
        compiled: Those of them that are there compiled as well.
        seeds: How many, from 0.
        iterations: Of each fit.
        rounds: Timed blocks.
        subjects: In `predictions.npz`.
        points: In each interval there.
        probes: Which of them ran.
        experiment: The name in the plan.
        plan: Whether there is a `plan.json`.
        held_out: Whether subjects were held out.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [(name, False) for name in frameworks] + [(name, True) for name in frameworks if name in compiled]
    plain = [(name, seed) for name in frameworks for seed in range(seeds)]
    jobs = [{"folder": str(k), "framework": n, "seed": seed, "compile": False} for k, (n, seed) in enumerate(plain)]
    jobs += [{"folder": label(n, True), "framework": n, "seed": 0, "compile": True} for n, apart in pairs if apart]
    variants = [label(*pair) for pair in pairs]
    if plan:
        about = {"schema_version": 1, "experiment": experiment, "jobs": jobs}
        _json(folder / "plan.json", {**about, "variants": variants, "probes": list(probes)})
    times, observed, curve = _cohort(subjects, points)
    for job in jobs:
        _job(folder / job["folder"], job, iterations, times, observed, curve, held_out)
    if "speed" in probes:
        _json(folder / "probes/exact.json", {**_head("exact", "diffrax", False), "norm": 3.4, "uncertainty": 2e-9})
    for probe in probes:
        for name, compile_ in pairs:
            if compile_ and probe in ("precision", "stability"):
                continue  # of plain variants only
            PROBE[probe](folder / "probes" / probe / f"{label(name, compile_)}.json", name, compile_, rounds)
    return folder


def label(framework, compiled=False):
    """A variant's name."""
    return f"{framework}-compiled" if compiled else framework


def jobs(folder, variant):
    """Names of the folders of a variant's jobs."""
    plan = json.loads((folder / "plan.json").read_text())
    return [job["folder"] for job in plan["jobs"] if label(job["framework"], job["compile"]) == variant]


def edit(path, change):
    """Rewrite a JSON file after `change(content)` has changed it in place."""
    content = json.loads(path.read_text())
    change(content)
    _json(path, content)
    return path


def corrupt_result(folder, job="0"):
    """Cut a run's `result.json` in half, as a full disk would."""
    return _halve(folder / job / "result.json")


def corrupt_probe(folder, probe="speed", variant="diffrax"):
    """Cut a probe's file in half."""
    return _halve(folder / "probes" / probe / f"{variant}.json")


def change_tolerance(folder, job="0", rtol=1e-3):
    """Change one run's `solver.rtol`."""
    path = folder / job / "config.yaml"
    content = yaml.safe_load(path.read_text())
    content["solver"]["rtol"] = rtol
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def kill_job(folder, job="0", *, begun=True):
    """Leave of a job what a killed one leaves: its config and part of its history, or, not `begun`, nothing."""
    if not begun:
        shutil.rmtree(folder / job)
        return
    for name in ("result.json", "weights.npz", "predictions.npz"):
        (folder / job / name).unlink(missing_ok=True)
    history = folder / job / "history.csv"
    lines = history.read_text().splitlines()
    history.write_text("\n".join(lines[: len(lines) // 2]) + "\n")


def fail_job(folder, job="0", message="torchode: the step size fell to nothing (subject 3, interval 1)"):
    """Make a job one that failed, and said so."""
    (folder / job / "predictions.npz").unlink(missing_ok=True)

    def change(content):
        content |= {"status": "failed", "error": {"type": "SolverFailure", "message": message}}
        content |= {"accuracy": None, "solver": None}

    edit(folder / job / "result.json", change)


def fail_probe(folder, probe="speed", variant="diffrax", message="killed for want of memory", status="failed"):
    """Make a probe one that failed, or that a library does not support."""
    path = folder / "probes" / probe / f"{variant}.json"
    path.with_suffix(".npz").unlink(missing_ok=True)
    content = json.loads(path.read_text())
    kept = {key: content[key] for key in ("schema_version", "probe", "variant", "framework", "compiled", "environment")}
    _json(path, {**kept, "status": status, "error": {"type": "MemoryError", "message": message}})


def remove_probe(folder, probe="speed", variant="diffrax"):
    """Take a probe's files away, as if it had been killed."""
    path = folder / "probes" / probe / f"{variant}.json"
    path.unlink()
    path.with_suffix(".npz").unlink(missing_ok=True)


def _halve(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def _json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, allow_nan=False))


def _draws(*words):
    """Random numbers that are the same every time, and others for every name."""
    return np.random.default_rng(list(" ".join(map(str, words)).encode()))


def _step_ms(name, compiled):
    return STEP_MS.get(name, 90.0) * ({"torchode": 0.42}.get(name, 0.55) if compiled else 1.0)


def _propagators(parameters, times):
    """As `compartments.propagators`, by eigenvectors, in no time, `[B, K, 2, 2]`."""
    rates, vectors = np.linalg.eig(compartments.rate_matrix(parameters))
    decay = np.exp(rates[:, None] * np.asarray(times)[:, None])
    return np.einsum("bij,bkj,bjl->bkil", vectors, decay, np.linalg.inv(vectors))


def _curves(parameters, initial, times, dose=100.0):
    """Amounts after doses at 12, 24 and 36 h, on the same fractions of each interval, `[B, S, K, 2]`."""
    moves = _propagators(parameters, times)
    parts, y = [], np.broadcast_to(initial, (len(parameters), 2))
    for k in range(4):
        y = y + np.array([dose if k else 0.0, 0.0])
        parts.append(np.einsum("bkij,bj->bki", moves, y))
        y = parts[-1][:, -1]
    return np.stack(parts, 1)


def _cohort(subjects, points):
    grid = np.linspace(0, 12, points)
    spread = np.exp(0.1 * _draws("cohort").standard_normal((subjects, 4)))
    observed = _curves(compartments.TYPICAL * spread, (100.0, 0.0), grid)
    return 12.0 * np.arange(4)[:, None] + grid, observed, observed.mean(0)


def _job(folder, job, iterations, times, observed, curve, held_out):
    folder.mkdir(exist_ok=True)
    name, seed, compiled = job["framework"], job["seed"], job["compile"]
    draws = _draws(name, seed)  # a compiled fit is the plain one
    config = asdict(Config(seed=seed))
    config["framework"]["name"] = name
    config["accelerator"]["compile"] = compiled
    config["training"]["iterations"] = iterations
    config["tracking"]["group"] = folder.parent.name
    config.setdefault("study", {"probes": list(PROBES)})
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    predicted = np.broadcast_to(curve * (1 + 0.004 * draws.standard_normal((4, 1, 2))), observed.shape)
    error = predicted - observed
    floor = float(np.sqrt(((observed - curve) ** 2).mean()))
    rmse = float(np.sqrt((error**2).mean()))
    history, step = _history(draws, iterations, rmse, name, compiled)
    lines = [",".join(map(repr, map(float, row))) for row in history[:, 1:]]
    rows = [f"{k + 1},{line}" for k, line in enumerate(lines)]
    (folder / "history.csv").write_text("\n".join(["iteration,loss,gradient_norm,step_ms", *rows]) + "\n")
    accuracy = {**_score(rmse, floor), "by_compartment": {}, "by_interval": []}
    for k, compartment in enumerate(compartments.COMPARTMENTS):
        accuracy["by_compartment"][compartment] = _two(float((error[..., k] ** 2).mean()))
    accuracy["by_interval"] = [_two(float((error[:, k] ** 2).mean())) for k in range(4)]
    accuracy["held_out"] = {**_score(1.06 * rmse, 1.04 * floor), "subjects": 20} if held_out else None
    baseline = BASELINE_MB.get(name, 300.0)
    performance = {
        "import_s": IMPORT_S.get(name, 1.5), "compile_s": COMPILE_S.get(name, 0.1) + 9.0 * compiled, "step_ms": step,
        "training_s": float(history[:, 3].sum() / 1e3), "rss_baseline_mb": baseline,
        "rss_peak_mb": baseline * 1.3 + 40 + 60 * compiled + 5 * draws.random(),
    }  # fmt: skip
    solver = {"accepted": 41.0, "rejected": 2.0, "evaluations": 262.0, "counted_for": "each subject"}
    _json(folder / "result.json", {
        "schema_version": 1, "status": "completed", "framework": name, "seed": seed, "kept_iteration": iterations,
        "iterations": iterations, "accuracy": accuracy, "performance": performance, "solver": solver,
    })  # fmt: skip
    store.write_npz(folder / "weights.npz", {"weight_0": draws.standard_normal((2, 3))}, {"framework": name})
    arrays = {"predicted": predicted, "observed": observed, "times": times}
    store.write_npz(folder / "predictions.npz", arrays, {"units": {"predicted": "mg", "observed": "mg", "times": "h"}})
    _json(folder / "provenance.json", {
        "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False}, **_environment(),
        "system": "Linux-6.1-x86_64", "device": "cpu", "precision": "float32", "data_digest": "ab" * 32,
    })  # fmt: skip


def _history(draws, iterations, rmse, name, compiled):
    """Rows of iteration, loss, gradient norm and ms, and what `result.json` says of the times."""
    k = np.arange(1, iterations + 1)
    curve = 30 * k**-0.35 * np.exp(-4 * k / iterations) * np.exp(0.06 * draws.standard_normal(iterations))
    loss = rmse**2 + (curve * (1 + 0.2 * draws.random())) ** 2
    loss[-1] = rmse**2
    step = _step_ms(name, compiled) * np.exp(0.04 * draws.standard_normal(iterations))
    shares = map(float, np.percentile(step[1:], [10, 50, 90])) if iterations > 1 else ()
    told = dict(zip(("p10", "median", "p90"), shares, strict=False)) or None
    step[0] += 1e3 * (COMPILE_S.get(name, 0.1) + 9.0 * compiled)
    return np.stack([k, loss, 12 / np.sqrt(k), step], 1), told


def _score(rmse, floor):
    return {"mse": rmse**2, "rmse": rmse, "rmse_floor": floor, "skill": 1 - (rmse / floor) ** 2}


def _two(mse):
    return {"mse": mse, "rmse": mse**0.5}


def _environment():
    return {"cpu": CPU, "cores": 2, "threads": 1, "python": "3.11.9", "packages": PACKAGES}


def _head(probe, name, compiled):
    return {
        "schema_version": 1, "probe": probe, "variant": label(name, compiled), "framework": name, "compiled": compiled,
        "status": "completed", "error": None, "environment": _environment(),
    }  # fmt: skip


def _speed(path, name, compiled, rounds):
    draws, baseline = _draws("speed", path.stem), BASELINE_MB.get(name, 300.0)
    modes = {}
    for mode in ("direct",) if compiled else GRADIENTS:
        ratio, error = GRADIENTS[mode]
        gradient = _step_ms(name, compiled) * (1.4 if mode == "adjoint" else 1.0) * 0.97
        forward = gradient / (1 + ratio)
        noise = 1 + 0.03 * draws.standard_normal((3, rounds))
        count = name in ("torchdiffeq", "torchdyn")
        jax = name in ("diffrax", "fused")
        modes[mode] = {
            "status": "completed", "error": None,
            "first_call_s": {"forward": 0.6 * COMPILE_S.get(name, 0.1) + 5 * compiled,
                             "gradient": 1.5 * COMPILE_S.get(name, 0.1) + 9 * compiled},
            "forward_ms": list(forward * noise[0]), "gradient_ms": list(gradient * noise[1]),
            "step_ms": list(gradient / 0.97 * noise[2]),
            "peak_mb": baseline * 1.3 + 60 + 80 * compiled,
            "backward_memory_mb": 9.0 if mode == "adjoint" else 60.0 if jax else 85.0,
            "backward_memory_kind": "XLA temporary buffers" if jax else "bytes saved by torch",
            "accepted": None if name == "torchdyn" else 41.0, "rejected": None if name == "torchdyn" else 2.0,
            "counted_for": "the batch" if count else "each subject",
            "evaluations": 880 if mode == "adjoint" else 262,
            "points": 200 if mode == "direct" else 21,
            "gradient_error": error * ACCURATE.get(name, 2.0), "gradient_error_max": 2 * error, "loss_error": error / 5,
        }  # fmt: skip
    _json(path, {
        **_head("speed", name, compiled), "import_s": IMPORT_S.get(name, 1.5), "rss_baseline_mb": baseline,
        "rounds": rounds, "calls": 5, "weights_digest": "cd" * 32, "modes": modes,
        "exact_gradient": {"norm": 3.4, "uncertainty": 2e-9},
    })  # fmt: skip


def _precision(path, name, compiled, rounds):
    draws, points = _draws("precision", path.stem), []
    for power in range(3, 10):
        rtol = float(f"1e-{power}")
        error, steps = rtol * 60 * ACCURATE.get(name, 2.0), 14.0 * 10 ** ((power - 3) / 5)
        seconds = STEP_MS.get(name, 90.0) / 4e3 * (0.4 + steps / 60) * (1 + 0.03 * draws.random(rounds))
        points.append({
            "rtol": rtol, "atol": rtol / 100, "status": "completed", "error": None, "error_mg": error,
            "rms_mg": error / 5, "seconds": list(seconds), "accepted": steps, "rejected": steps / 10,
        })  # fmt: skip
    _json(path, {**_head("precision", name, compiled), "points": points})


def _stability(path, name, compiled, rounds):
    times, infused = np.append(np.linspace(11.5, 12, 31), np.linspace(12, 13.5, 91)), np.linspace(11.5, 13.5, 401)
    arrays, fields = {"times": times, "times.infusion": infused}, {}
    for field, off in (("true", 0.0), ("learned", 0.015)):
        arrays[f"exact.{field}"] = _closeup(times, 100.0, after=np.arange(len(times)) > 30)
        arrays[f"exact.{field}.infusion"] = _closeup(infused, 100.0, width=INFUSION_H)
        fields[field] = {}
        for treatment in ("restart", "jump_ts", "nothing"):
            if treatment == "jump_ts" and name not in JUMPS:
                lack = f"{name} cannot be told of a discontinuity"
                fields[field][treatment] = {"status": "unsupported", "error": lack}
                continue
            missed = treatment == "nothing" and name in MISSES
            scale = {"restart": 1e-5, "jump_ts": 3e-4, "nothing": 0.05}[treatment] * ACCURATE.get(name, 2.0)
            clock, exact = times, arrays[f"exact.{field}"]
            if treatment != "restart":
                clock, exact = infused, arrays[f"exact.{field}.infusion"]
            start = _closeup(clock, 0.0) if missed else exact
            wave = scale * np.sin(9 * (clock - 12)) * np.exp(-abs(clock - 12))
            arrays[f"{field}.{treatment}"] = start * (1 - off) + (wave * (clock >= 12))[:, None] * (1.0, 0.2)
            error = 100.0 if missed else scale + 100 * off
            fields[field][treatment] = _treated(error, scale, missed, treatment)
    _json(path, {
        **_head("stability", name, compiled), "window_h": 0.5, "infusion_h": INFUSION_H, "subject": 0, "fields": fields,
    })  # fmt: skip
    store.write_npz(path.with_suffix(".npz"), arrays, {"units": {"times": "h", "amounts": "mg"}, "compartments": 2})


def _treated(error, scale, missed, treatment):
    return {
        "missed": missed,
        "status": "completed",
        "error": None,
        "jump_mg": 100.0 - error,
        "jump_error_mg": error,
        "jump_error_max_mg": 1.5 * error,
        "overshoot_percent_mean": scale / 3,
        "overshoot_percent_max": scale,
        "oscillation_mg": scale,
        "noise_mg2": scale**2,
        "error_max_mg": 2 * error,
        "error_rms_mg": 0.4 * error,
        "time_to_peak_h": {"central": 0.3 if missed else 0.0, "peripheral": 9.1},
        "time_to_peak_exact_h": {"central": 0.0, "peripheral": 9.0},
        "steps_after_dose": {"restart": 6.0, "jump_ts": 8.0, "nothing": 2.0 if missed else 31.0}[treatment],
        "steps_total": {"restart": 43.0, "jump_ts": 52.0, "nothing": 20.0 if missed else 140.0}[treatment],
    }


def _closeup(times, dose, *, width=0.0, after=None):
    """A typical subject's amounts near the first dose, given between two points or over `width` hours, `[N, 2]`."""
    typical = np.array([compartments.TYPICAL])
    before = _propagators(typical, times)[0] @ np.array([100.0, 0.0])
    since = times - 12.0
    dosed = _propagators(typical, np.maximum(since, 0))[0] @ np.array([dose, 0.0])
    share = np.clip(since / width, 0, 1) if width else (since >= 0 if after is None else after)
    return before + dosed * share[:, None]


def _repeat(path, name, compiled, rounds):
    torch = name not in ("diffrax", "fused")
    _json(path, {
        **_head("repeat", name, compiled), "iterations": 20, "again": {"bitwise": True, "max_difference_mg": 0.0},
        "threads": {"counts": [1, 2], "bitwise": not torch, "max_difference_mg": 3e-5 * torch,
                    "loss_difference": 2e-7 * torch},
        "precision": {"max_difference_mg": 0.004, "loss_difference": 3e-5},
    })  # fmt: skip


PROBE = {"speed": _speed, "precision": _precision, "stability": _stability, "repeat": _repeat}
