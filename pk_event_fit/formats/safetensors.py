"""Named arrays as safetensors, by the library of that name; the note is the text `about` of the header's metadata.

The header, its length, types and places of all arrays are checked by the library. Format:
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as tensors

DAMAGE = (SafetensorError, KeyError)  # the latter for types that NumPy does not have


def dumped(arrays: Mapping[str, np.ndarray], note: Mapping[str, Any]) -> bytes:
    """The file's content."""
    return tensors.save(dict(arrays), {"about": json.dumps(note, sort_keys=True)})


def parsed(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and note; empty, where the file has none, as that of a torch `state_dict` of somebody else."""
    arrays = {name: array.copy() for name, array in tensors.load(content).items()}
    # The library shows the metadata of files alone, and a file could be another one by then.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    note = json.loads((header.get("__metadata__") or {}).get("about", "{}"))
    if not isinstance(note, dict):
        raise ValueError("its note is not a JSON object")
    return arrays, note
