"""`python -m pk_event_fit.export RUN OUT`: the model of a run, or of a model's file, as another file.

OUT ends with .npz, .safetensors or .eqx, which says in what format it is written, and must not be there yet. All three
hold the same: the parameters to the bit, structure, scales, units, provenance, and a digest.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import formats
from ..errors import ConfigError, PKEventError
from ..fields import inside
from ..saving import SavedModel, load_model, save_model


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line asks for.

    Returns:
        0; 2 where the input is bad, or 1 where nothing can be written: there is no new file then.
    """
    parser = argparse.ArgumentParser(
        prog="python -m pk_event_fit.export", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a run, or a model's file")
    parser.add_argument("out", metavar="OUT", type=Path, help="file to write")
    asked = parser.parse_args(words)
    try:
        formats.check_suffix(asked.out)
        if asked.out.exists() or asked.out.is_symlink():
            raise ConfigError(f"{asked.out}: is there already; name another file")
        model = load_model(asked.run / "weights.npz" if asked.run.is_dir() else asked.run)
        save_model(asked.out, model, new=True)
    except PKEventError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    print(_told(model))
    print(asked.out)
    return 0


def _told(model: SavedModel) -> str:
    name = getattr(inside(model.field), "name", "mlp")
    count = sum(value.size for value in model.params.values())
    of = ", ".join(model.compartments) or f"{model.size} compartments"
    return f"{name} of {of}: {count} parameters"


if __name__ == "__main__":
    sys.exit(main())
