"""The command line: composes configs and starts each job in a process of its own. The only importer of Hydra."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from . import comparison, guide, signals, store, sweep
from .config import Config, without_idle
from .errors import CheckpointError, ConfigError, PKEventError
from .frameworks import available
from .launch import launch, side_by_side
from .plain import check_shape, check_words
from .tracking import leave

_HERE = Path(__file__).resolve().parent
CONF = next(folder for folder in (_HERE / "conf", _HERE.parent / "conf") if folder.is_dir())

ConfigStore.instance().store(name="schema", node=Config)


def compose(overrides: Sequence[str] = ()) -> Config:
    """The config that these words of the command line make, checked.

    Raises:
        ConfigError: A word is unknown, of the wrong type or out of range.
    """
    with _refusing(overrides):
        config = typed(composed(overrides))
    check_words(overrides, config)
    return config


def composed(overrides: Sequence[str]) -> DictConfig:
    """The same before it is checked.

    Raises:
        ConfigError: A word is unknown, or its value of the wrong type.
    """
    overrides = _opened(overrides)
    for word in overrides:
        if re.match(r"\+?framework=\[.*,", word):  # Hydra would take the last and say nothing
            raise ConfigError(f"{word}: one run has one framework; a sweep is asked for by -m framework=a,b")
    with _refusing(overrides), hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", list(overrides))


def _opened(words: Sequence[str]) -> list[str]:
    """The words, with a `++` before settings whose names are free, which Hydra would else not let be new."""
    return [re.sub(r"^(?=(model\.parameters|data\.typical)[.=])", "++", word) for word in words]


@contextlib.contextmanager
def _refusing(overrides: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_one_line(error)) from error
    except ValueError as error:
        raise ConfigError(f"{' '.join(overrides)}: {_one_line(error)}") from error


def typed(composed: DictConfig) -> Config:
    """The composed config as the package's own types, checked.

    Raises:
        ConfigError: A value is of the wrong type or out of range, or asks a resolver, which could read the environment.
    """
    # As plain values first: a key that `+` added to a typed node stays on it unseen.
    plain: Any = OmegaConf.to_container(composed, resolve=False)
    check_shape(plain)
    try:
        config: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create(plain)))
    except OmegaConfBaseException as error:
        raise ConfigError(_one_line(error)) from error
    if config.framework.name is not None and config.framework.name not in available():
        raise ConfigError(f"framework={config.framework.name}: choose one of {', '.join(available())}")
    for key in ("frameworks", "compiled"):
        if unknown := [name for name in getattr(config.study, key) if name not in available()]:
            raise ConfigError(f"study.{key}: there is no {', '.join(unknown)}; choose of {', '.join(available())}")
    return config


_jobs: list[tuple[Path, int]] = []
_waiting: list[tuple[Config, Path]] = []  # jobs that are to run side by side
_sweep: list[Path] = []
_plan: list[Config] = []
_asked = sys.argv[1:]
_held = contextlib.ExitStack()  # the sweep's folder, until the process ends


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _task(composed: DictConfig) -> None:
    info = HydraConfig.get()
    folder = Path(info.runtime.output_dir)
    group = None
    if info.mode == RunMode.MULTIRUN:
        _sweep[:] = [Path(info.sweep.dir).resolve()]
        group = _sweep[0].name
        print(f"job {info.job.num}: {info.job.override_dirname or 'defaults'}", flush=True)
        if info.job.num == 0 and any((_sweep[0] / name).exists() for name in ("summary.csv", "plan.json")):
            if not any(folder.iterdir()):
                folder.rmdir()
            other = f"name another hydra.sweep.dir, or go on with resume={_sweep[0]}"
            print(f"error: {_sweep[0]}: already holds a sweep; {other}", file=sys.stderr)
            sys.exit(2)  # Hydra keeps an exception for later and runs the other jobs
        if info.job.num == 0:
            try:
                _held.enter_context(store.locked(_sweep[0]))
            except ConfigError as error:
                print(f"error: {error}", file=sys.stderr)
                sys.exit(2)
        if info.job.num == 0 and _plan:
            comparison.write_plan(_sweep[0], _plan, info.runtime.choices.get("experiment"), _asked)
    code, later = 130, False
    try:
        config = typed(composed)
        later = group is not None and config.study.at_once > 1
        if later:
            _waiting.append((config, folder))
        else:
            code = launch(config, folder, group=group)
    except (PKEventError, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        code = 1
    finally:
        if not later:
            _jobs.append((folder, code))
    if code == 130 and not later:
        raise KeyboardInterrupt


def main() -> None:
    """Entry of `python -m pk_event_fit`; exit 2 for bad input, 1 where a run failed, 130 where it was interrupted."""
    signals.interrupt_at_sigterm()
    try:
        _main()
    except KeyboardInterrupt:  # where no job was at work
        print("interrupted", file=sys.stderr)
        leave(130)


def _main() -> None:
    try:
        words = sys.argv[1:] = _opened(_swept(sys.argv[1:]))
        _plan[:] = _planned(words)
        if len(_plan) > 1 and _plan[0].study.cross_validate:
            guide.check(_plan)
        if any(config.resume is not None for config in _plan):
            leave(_resume(_plan, words))
    except PKEventError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would else print paragraphs and exit by itself
    interrupted = False
    try:
        _task()
        if _waiting:
            at_once = max(config.study.at_once for config, _ in _waiting)
            _jobs.extend(side_by_side(_waiting, at_once, group=_sweep[0].name))
            interrupted = any(code == 130 for _, code in _jobs)
    except KeyboardInterrupt:
        interrupted = True
    except (PKEventError, HydraException, OmegaConfBaseException, OSError) as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        sys.exit(2)
    if not (_sweep and _jobs):
        sys.exit(130 if interrupted else max((code for _, code in _jobs), default=0))
    leave(sweep.end(_sweep[0], _plan, _jobs, interrupted, words=_asked))


def _swept(words: Sequence[str]) -> list[str]:
    """The words, with the sweep that an experiment asks for written out, as far as they do not name their own.

    Seeds change slowest, so that fits to be compared are neighbours in time.
    """
    arguments = get_args_parser().parse_args(list(words))
    named = [word for word in arguments.overrides if re.match(r"\+*(experiment=|study\.|data[.\w]*=)", word)]
    if _asks(arguments) or not any("experiment=" in word for word in named):
        return list(words)
    plain = [word for word in named if "data" not in word.partition("=")[0]]
    study = compose(plain).study
    told = {word.lstrip("+").partition("=")[0] for word in arguments.overrides}
    folds: list[str] = []
    if study.cross_validate and "data.fold" not in told:
        folds = ["null", *map(str, range(compose(named).data.folds or 0))]
    own = (("seed", [str(seed) for seed in study.seeds]), ("framework", study.frameworks), ("data.fold", folds))
    more = [f"{key}={','.join(values)}" for key, values in own if values and key not in told]
    if not (study.seeds or study.frameworks or folds):
        return list(words)
    return [*([] if arguments.multirun else ["--multirun"]), *words, *more]


def _asks(arguments: Any) -> bool:
    """Whether the words ask a question that Hydra answers, without running anything."""
    return any(getattr(arguments, name) for name in ("help", "hydra_help", "cfg", "info", "shell_completion"))


def _planned(words: Sequence[str]) -> Iterator[Config]:
    """Every job that these words ask for, checked before the first is started."""
    arguments = get_args_parser().parse_args(list(words))
    if _asks(arguments):
        return
    if not arguments.multirun:
        yield compose(arguments.overrides)
        return
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()  # for sweeps by glob(*)
            overrides = OverridesParser.create(config_loader=loader).parse_overrides(arguments.overrides)
            if any(override.key_or_group == "hydra/launcher" for override in overrides):
                raise ConfigError("hydra/launcher: this package starts each job in a process of its own, one at a time")
            if any(override.key_or_group == "hydra/sweeper" for override in overrides):
                return  # another sweeper makes up its jobs as it goes
            jobs = BasicSweeper.split_arguments(overrides, max_batch_size=1)
    except HydraException as error:
        raise ConfigError(_one_line(error)) from error
    for (job,) in jobs:
        yield compose(job)


def _resume(plan: Sequence[Config], words: Sequence[str]) -> int:
    """Go on with an earlier run or sweep, in its folder and with its own config.

    Raises:
        ConfigError: More than the number of iterations and the tracking is asked to change, or anything in a sweep.
        CheckpointError: There is no such run or sweep, or its plan is damaged.
    """
    folder = Path(str(plan[0].resume)).expanduser().resolve()
    if (folder / "plan.json").is_file():
        if len(plan) != 1 or len(words) != 1:
            raise ConfigError(f"resume={folder}: goes on with a sweep as it was planned; nothing else may be asked")
        plan = list(_planned(_swept(comparison.read_plan(folder))))
        return sweep.resume(folder, plan, _stored)
    extra = [word for word in words if not re.match(r"\+?(resume|training\.iterations|tracking(\.mode)?)=", word)]
    if len(plan) != 1 or extra:
        raise ConfigError(f"resume goes with training.iterations and tracking only, not with {' '.join(extra) or '-m'}")
    if not (folder / "config.yaml").is_file() or not (folder / "checkpoint.npz").is_file():
        raise CheckpointError(f"resume={folder}: holds no run (needs config.yaml and checkpoint.npz)")
    stored = _stored(folder)
    stored.resume = str(folder)
    if any(word.startswith("training.iterations=") for word in words):
        if stored.training.phases is not None:
            raise ConfigError(f"training.iterations: {folder} has phases, and goes on to the end of the last")
        stored.training.iterations = plan[0].training.iterations
    if any(word.startswith("tracking") for word in words):
        stored.tracking.mode = plan[0].tracking.mode
    return launch(stored, folder)


def _stored(folder: Path) -> Config:
    """The config of the run in a folder.

    Raises:
        CheckpointError: It is damaged.
    """
    try:
        plain: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"), resolve=False)
        return typed(OmegaConf.create(without_idle(plain) if isinstance(plain, dict) else plain))
    except (OmegaConfBaseException, ConfigError, yaml.YAMLError, ValueError, OSError) as error:
        raise CheckpointError(f"{folder / 'config.yaml'}: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    """What Hydra and OmegaConf say in paragraphs, as one line that names the key, the value and the choices."""
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and dataclasses.is_dataclass(cause.object_type):
        names = ", ".join(entry.name for entry in dataclasses.fields(cause.object_type))
        return f"{cause.full_key or cause.key}: there is no such setting; here are {names}"
    text = str(error).partition("Config search path")[0] + (f" {cause}" if cause not in (None, error) else "")
    skip = ("To append to your config", "reference_type=", "object_type=", "full_key:", "Set the environment variable")
    lines = [line.strip() for line in text.splitlines()]
    key = getattr(cause, "full_key", None)
    return " ".join(line for line in lines if line and not line.startswith(skip)) + (f" ({key})" if key else "")


if __name__ == "__main__":
    main()
