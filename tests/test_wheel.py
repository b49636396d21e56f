"""A wheel, installed elsewhere and run from another folder, does what the checkout does."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

WORDS = ("data.subjects=3", "data.points=5", "model.hidden=[4]", "training.iterations=2", "tracking=disabled")


def python(*words: str, cwd: Path, path: Path | None = None) -> str:
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    surroundings |= {} if path is None else {"PYTHONPATH": str(path)}
    line = (sys.executable, *words)
    done = subprocess.run(line, cwd=cwd, env=surroundings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    root, folder = Path(__file__).resolve().parent.parent, tmp_path_factory.mktemp("wheel")
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(root), cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Inside somebody's own repository, as virtual environments often are."""
    folder = tmp_path_factory.mktemp("theirs")
    git = ("git", "-C", str(folder), "-c", "user.name=They", "-c", "user.email=they@example.org")
    subprocess.run((*git, "init", "--quiet"), check=True)
    subprocess.run((*git, "commit", "--quiet", "--allow-empty", "--message", "Begin"), check=True)
    target = folder / "installed"
    python("-m", "pip", "install", "--no-deps", "--no-index", "--target", str(target), str(wheel), cwd=folder)
    return target


@pytest.fixture(scope="module")
def elsewhere(installed, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere")
    python("-m", "pk_event_fit", "+framework=diffrax", *WORDS, "hydra.run.dir=run", cwd=folder, path=installed)
    return folder


def names(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_holds_every_file_of_settings(wheel, root):
    ours = {f"pk_event_fit/{path.relative_to(root)}" for path in (root / "conf").rglob("*.yaml")}
    assert ours <= names(wheel)
    assert "pk_event_fit/conf/config.yaml" in ours


def test_the_wheel_holds_every_module(wheel, root):
    assert {str(path.relative_to(root)) for path in (root / "pk_event_fit").rglob("*.py")} <= names(wheel)


def test_the_wheel_holds_nothing_else(wheel):
    held = [name for name in names(wheel) if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in held} == {"pk_event_fit"}
    assert {Path(name).suffix for name in held} == {".py", ".yaml", ".css", ".html", ".csv"}


def test_what_is_imported_is_the_wheel(installed, elsewhere):
    found = python("-c", "import pk_event_fit; print(pk_event_fit.__file__)", cwd=elsewhere, path=installed)
    assert Path(found.strip()).is_relative_to(installed)


def test_the_settings_are_those_of_the_wheel(installed, elsewhere):
    found = python("-c", "from pk_event_fit import cli; print(cli.CONF)", cwd=elsewhere, path=installed)
    assert Path(found.strip()).is_relative_to(installed)


def test_a_run_from_another_folder_completes(elsewhere):
    assert json.loads((elsewhere / "run" / "result.json").read_text())["status"] == "completed"


def test_a_run_of_a_wheel_claims_no_commit(elsewhere):
    assert json.loads((elsewhere / "run" / "provenance.json").read_text())["git"] is None


def test_a_run_writes_below_the_folder_that_it_was_started_from(elsewhere, installed):
    assert {path.name for path in elsewhere.iterdir()} == {"run", "data"}
    assert not (installed / "data").exists()
