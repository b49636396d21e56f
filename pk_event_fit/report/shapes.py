"""What the JSON files of a sweep hold, as shapes for `files.check`."""

from __future__ import annotations

from typing import Any

from .files import AMOUNT, ANY, COUNT, FLAG, NUMBER, TEXT

ERROR: dict[str, Any] = {"type": TEXT, "message": TEXT}
PAIR: dict[str, Any] = {"mse": AMOUNT, "rmse": AMOUNT}
SCORE: dict[str, Any] = {**PAIR, "rmse_floor": AMOUNT, "skill": NUMBER}
PLAN: dict[str, Any] = {
    "experiment": TEXT, "words": [TEXT], "jobs": [{"folder": TEXT, "framework": TEXT, "seed": COUNT, "compile": FLAG}],
    "variants": [TEXT], "probes": [TEXT],
}  # fmt: skip
RESULT: dict[str, Any] = {
    "status": TEXT, "framework": TEXT, "seed": COUNT, "error": ERROR, "kept_iteration": COUNT, "iterations": COUNT,
    "accuracy": {
        **SCORE, "by_compartment": {ANY: PAIR}, "by_interval": [PAIR], "held_out": {**SCORE, "subjects": COUNT},
    },
    "performance": {
        "import_s": AMOUNT, "compile_s": AMOUNT, "step_ms": {"median": AMOUNT, "p10": AMOUNT, "p90": AMOUNT},
        "training_s": AMOUNT, "rss_baseline_mb": AMOUNT, "rss_peak_mb": AMOUNT,
    },
    "solver": {"accepted": AMOUNT, "rejected": AMOUNT, "evaluations": AMOUNT, "counted_for": TEXT},
}  # fmt: skip
PROVENANCE = {"git": {"commit": TEXT, "dirty": FLAG}, "packages": {ANY: TEXT}, "cpu": TEXT, "data_digest": TEXT}
HEAD = {
    "probe": TEXT, "variant": TEXT, "framework": TEXT, "compiled": FLAG, "status": TEXT, "error": ERROR,
    "environment": {"cpu": TEXT, "cores": COUNT, "threads": COUNT, "python": TEXT, "packages": {ANY: TEXT}},
}  # fmt: skip
MODE = {
    "status": TEXT, "error": TEXT, "first_call_s": {"forward": AMOUNT, "gradient": AMOUNT}, "forward_ms": [AMOUNT],
    "gradient_ms": [AMOUNT], "step_ms": [AMOUNT], "peak_mb": AMOUNT, "backward_memory_mb": AMOUNT,
    "backward_memory_kind": TEXT, "accepted": AMOUNT, "rejected": AMOUNT, "counted_for": TEXT, "evaluations": AMOUNT,
    "gradient_error": AMOUNT, "gradient_error_max": AMOUNT, "loss_error": AMOUNT,
    "points": COUNT,
}  # fmt: skip
POINT = {
    "rtol": AMOUNT, "atol": AMOUNT, "status": TEXT, "error": TEXT, "error_mg": AMOUNT, "rms_mg": AMOUNT,
    "seconds": [AMOUNT], "accepted": AMOUNT, "rejected": AMOUNT,
}  # fmt: skip
TREATED = {
    "status": TEXT, "error": TEXT, "jump_mg": NUMBER, "jump_error_mg": AMOUNT, "jump_error_max_mg": AMOUNT,
    "overshoot_percent_mean": NUMBER, "overshoot_percent_max": NUMBER, "oscillation_mg": AMOUNT, "noise_mg2": AMOUNT,
    "time_to_peak_h": {ANY: NUMBER}, "time_to_peak_exact_h": {ANY: NUMBER}, "steps_after_dose": AMOUNT,
    "steps_total": AMOUNT, "error_max_mg": AMOUNT, "error_rms_mg": AMOUNT,
    "missed": FLAG,
}  # fmt: skip
DRIFT = {"bitwise": FLAG, "max_difference_mg": AMOUNT, "loss_difference": AMOUNT}
SHAPES: dict[str, dict[str, Any]] = {
    "speed": {
        "import_s": AMOUNT, "rss_baseline_mb": AMOUNT, "rounds": COUNT, "calls": COUNT, "weights_digest": TEXT,
        "modes": {ANY: MODE}, "exact_gradient": {"norm": AMOUNT, "uncertainty": AMOUNT},
    },
    "precision": {"points": [POINT]},
    "stability": {"window_h": AMOUNT, "infusion_h": AMOUNT, "subject": COUNT, "fields": {ANY: {ANY: TREATED}}},
    "repeat": {"iterations": COUNT, "again": DRIFT, "threads": {"counts": [COUNT], **DRIFT}, "precision": DRIFT},
}  # fmt: skip
NEEDED = {"speed": "modes", "precision": "points", "stability": "fields", "repeat": "again"}
