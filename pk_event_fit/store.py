"""Files that hold arrays or text: read with suspicion, written whole or not at all. No pickle, ever."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from .errors import ConfigError, DataError

# What zipfile, zlib and NumPy's header parser raise on damaged files.
DAMAGE = (
    OSError, zipfile.BadZipFile, zlib.error, tokenize.TokenError, ValueError, TypeError, OverflowError, EOFError,
    MemoryError, NotImplementedError, RuntimeError, SyntaxError,
)  # fmt: skip
LIMIT = 8 * 2**30  # bytes of all arrays of a file; headers may promise anything


def write_bytes(path: Path, content: bytes, *, new: bool = False) -> None:
    """Replace a file by a complete new one; after a crash there is the old one or the new one.

    Args:
        path: The file.
        content: What it is to hold.
        new: Whether there must be no such file yet; of two that try at once, one is refused.

    Raises:
        FileExistsError: There is one, and `new` was asked.
        OSError: The disk is full or read-only; the old file is untouched and no partial file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644 & ~_umask())
        if new:
            _link(name, path)
            os.unlink(name)
        else:
            os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _link(name: str, path: Path) -> None:
    try:
        os.link(name, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: exclusive all the same, though not whole after a crash
        with open(path, "xb") as stream:
            stream.write(Path(name).read_bytes())


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, so that no second process writes there; let go when the block or the process ends.

    Raises:
        ConfigError: Another process holds it.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows has no such lock; exclusive creation still refuses a second new run
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"{folder}: another process is running there") from error
        except OSError:
            pass  # a file system without locks; exclusive creation still refuses a second new run
        yield
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`, for text in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """As `write_text`, for JSON; a number that is not finite is refused rather than written as what is not JSON."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def digest(arrays: Mapping[str, np.ndarray], note: Mapping[str, Any] | None = None) -> str:
    """SHA-256 of names, types, shapes and values, in the order of the names, and of a note."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        total.update(array.tobytes())
    if note:
        total.update(json.dumps(note, sort_keys=True).encode())
    return total.hexdigest()


def write_npz(
    path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any] | None = None, *, new: bool = False
) -> str:
    """Write named arrays, and a JSON note under `about` with the digest of all; the same content gives the same bytes.

    `new` is that of `write_bytes`.

    Returns:
        The digest.
    """
    note = {**(about or {}), "digest": digest(arrays, about)}
    stream = io.BytesIO()
    # As `np.savez` does, whose `allow_pickle` is an array's name to NumPy before 2.2.
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in {**arrays, "about": np.array(json.dumps(note, sort_keys=True))}.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)
    write_bytes(path, stream.getvalue(), new=new)
    return note["digest"]


def read_npz(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read named arrays and their note; headers are checked before any array is allocated.

    Returns:
        The arrays by name, and the note (empty where the file has none). A note's digest has been checked.

    Raises:
        DataError: There is no such file, it is damaged, holds objects, promises more than it holds, or was changed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
            if sum(_check_header(archive, entry, path) for entry in entries) > LIMIT:
                raise DataError(f"{path}: its arrays take more than the limit of {LIMIT} bytes")
            arrays = {}
            for entry in entries:
                with archive.open(entry) as stream:
                    arrays[entry.filename.removesuffix(".npy")] = np.lib.format.read_array(stream, allow_pickle=False)
    except DAMAGE as error:
        raise DataError(f"{path}: not a readable npz file ({error})") from error
    about = _read_note(arrays.pop("about", None), path)
    note = {key: value for key, value in about.items() if key != "digest"}
    if "digest" in about and about["digest"] != digest(arrays, note):
        raise DataError(f"{path}: the digest does not fit the content; the file was changed after it was written")
    return arrays, about


def promised(stream: IO[bytes]) -> tuple[np.dtype, int]:
    """Type and size in bytes of the npy array that begins here; the stream is left where its values begin.

    Raises:
        ValueError, or another of `DAMAGE`: None begins here.
    """
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return dtype, int(np.prod([int(n) for n in shape], dtype=object)) * dtype.itemsize


def _check_header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> int:
    with archive.open(entry) as stream:
        dtype, size = promised(stream)
        if dtype.hasobject:
            raise DataError(f"{path}: array {entry.filename!r} holds Python objects, which are never loaded")
        if size != entry.file_size - stream.tell():
            raise DataError(
                f"{path}: array {entry.filename!r} promises {size} bytes and holds {entry.file_size - stream.tell()}"
            )
        return size


def _read_note(note: np.ndarray | None, path: Path) -> dict[str, Any]:
    if note is None:
        return {}
    try:
        content = json.loads(str(note))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: the note 'about' is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: the note 'about' is not a JSON object")
    return content
