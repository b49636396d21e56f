"""What this process may compute on."""

import os


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads() -> int:
    """What `OMP_NUM_THREADS` asks for, or as many as there are cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # a list is one number for each level of nesting
    return int(asked) if asked.isdecimal() and int(asked) else cores()
