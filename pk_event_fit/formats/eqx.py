"""Named arrays as an `.eqx` file: a line of JSON, then the leaves of a tree, each in NumPy's npy format.

That is what Equinox's documentation recommends, and what `equinox.tree_serialise_leaves` writes
(https://docs.kidger.site/equinox/examples/serialisation/). Neither Equinox nor JAX is needed for it, and float64 stays
that without JAX being told to compute in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np

from .. import store

DAMAGE = ()
HEADER_LIMIT = 2**20  # bytes


def dumped(arrays: Mapping[str, np.ndarray], note: Mapping[str, Any]) -> bytes:
    """The file's content; its first line is the note with the names of the leaves."""
    stream = BytesIO()
    stream.write(json.dumps({**note, "leaves": list(arrays)}, sort_keys=True).encode() + b"\n")
    for array in arrays.values():
        np.lib.format.write_array(stream, array, allow_pickle=False)
    return stream.getvalue()


def parsed(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and note. Of somebody else's file, leaves are named as a stack of linear layers has them, `0.weight`,
    `0.bias`, `1.weight`..., and the note is whatever the first line says; empty, where there is no such line."""
    stream = BytesIO(content)
    note = {} if content.startswith(np.lib.format.MAGIC_PREFIX) else json.loads(stream.readline(HEADER_LIMIT))
    if not isinstance(note, dict):
        raise ValueError("its first line is not a JSON object")
    leaves = []
    while (begin := stream.tell()) < len(content):
        _, size = store.promised(stream)
        if size > len(content) - stream.tell():
            raise ValueError("a leaf promises more than there is")
        stream.seek(begin)
        leaves.append(np.lib.format.read_array(stream, allow_pickle=False))
    names = [f"{k // 2}.{('weight', 'bias')[k % 2]}" for k in range(len(leaves))]
    if "digest" in note:
        names = note.pop("leaves", names)
    if not isinstance(names, list) or len(names) != len(leaves) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"it names {names!r}, and holds {len(leaves)} leaves")
    return dict(zip(names, leaves, strict=True)), note
