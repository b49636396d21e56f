"""Where a result comes from: code, versions, machine, data."""

from __future__ import annotations

import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .config import Config
from .frameworks import asked_packages
from .threads import cores, threads


def provenance(config: Config, data_digest: str) -> dict[str, Any]:
    """What a reader needs to repeat a run; no environment variable but the thread count is read."""
    return {
        "git": git(Path(__file__).parent),
        "python": platform.python_version(),
        "packages": packages(),
        "system": platform.platform(),
        "cpu": _cpu(),
        "cores": cores(),
        "threads": config.accelerator.threads or threads(),
        "device": config.accelerator.device,
        "precision": config.accelerator.precision,
        "data_digest": data_digest,
    }


def git(folder: Path) -> dict[str, Any] | None:
    """Commit of the checkout that this package runs from and whether it was changed; None where it is no checkout."""

    def ask(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.strip()

    try:
        # A wheel may be installed into an environment that lies inside somebody else's checkout.
        if not ask("ls-files", "--", Path(__file__).name):
            return None
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def packages() -> dict[str, str]:
    """Versions of this package and of all that runs ask for, extras included, as far as they are installed."""
    asked = [line for line in asked_packages() if "'test'" not in line]
    names = {re.split(r"[^\w-]", line)[0] for line in asked}
    found = {}
    for name in sorted(names | {"pk-event-fit", "jaxlib"}):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
