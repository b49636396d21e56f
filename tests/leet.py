"""Reads the offline files of W&B by its own reader, `wandb leet inspect`."""

import json
import subprocess
import sys
from pathlib import Path


def inspect(folder: Path, *words: str) -> list[dict]:
    """What it prints, a JSON object a line, of the only run in a folder."""
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    line = (sys.executable, "-m", "wandb", "leet", "inspect", "--json", *words, str(path))
    done = subprocess.run(line, capture_output=True, text=True, timeout=200, check=True)
    return [json.loads(text) for text in ([done.stdout] if words else done.stdout.splitlines())]


def records(folder: Path) -> list[dict]:
    """Every record of the run."""
    return inspect(folder)


def summary(folder: Path) -> dict:
    """State, config and last values of the run."""
    return inspect(folder, "--summary")[0]


def of_type(found: list[dict], name: str) -> list[dict]:
    """The records of a type."""
    return [record[name] for record in found if record["type"] == name]


def media(folder: Path, entry: dict) -> Path:
    """The file that an entry of history or summary points to."""
    (path,) = folder.glob(f"wandb/offline-run-*/files/{entry['path']}")
    return path
