"""The rules of the layout: who may import what, and what nobody may write."""

import ast
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "pk_event_fit"
NAME = PACKAGE.name
FILES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}

# From the bottom up; a module imports from its own line and the lines above it here. A folder stands for what is in it.
LAYERS = [
    ["errors", "signals", "threads"],
    ["arrays", "store", "fields", "compartments"],
    ["records", "intervals", "formats"],
    ["fused"],
    ["frameworks", "integrate", "nonmem", "doses"],
    ["events", "cycles", "datasets", "croissant"],
    ["table"],
    ["dosing", "clocks"],
    ["simulate"],
    ["data"],
    ["training", "metrics", "report", "tracking", "study", "models"],
    ["config", "checkpoint", "export", "workspace"],
    ["provenance", "record", "outcome", "saving", "evaluation", "plain"],
    ["job"],
    ["probes", "comparison", "launch"],
    ["guide"],
    ["sweep"],
    ["cli"],
    ["evaluate"],
    ["__main__"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

# A figure that is asked of a cohort: what lies above is imported by the call, and by nothing else.
ON_DEMAND = {"data/cohort.py": {"report"}}

# Who else may import a library; whoever is not named here may not.
OWNERS = {
    "hydra": ["cli"],
    "omegaconf": ["cli"],
    "wandb": ["tracking"],
    "wandb_workspaces": ["workspace"],
    "matplotlib": ["report/figures", "report/ink", "report/panels", "report/lines", "report/closeups", "report/plots",
                   "report/regimen", "report/evaluated", "report/fits", "report/phases", "report/plane",
                   "report/residuals"],
    "optax": ["arrays/jax"],
    "equinox": ["export/equinox"],
    "jax": ["arrays/jax", "frameworks/diffrax", "frameworks/fused", "export/equinox",
            *(f"fused/{name}" for name in ("adjoint", "dense", "engine", "forward", "ivp", "linear", "tape"))],
    "torch": ["arrays/torch", "frameworks/_torch", "frameworks/torchdiffeq", "frameworks/torchdyn",
              "frameworks/torchode", "export/torch"],
    "diffrax": ["frameworks/diffrax"],
    "torchdiffeq": ["frameworks/torchdiffeq"],
    "torchdyn": ["frameworks/torchdyn"],
    "torchode": ["frameworks/torchode"],
    "safetensors": ["formats/safetensors"],
    "mlcroissant": [],
}  # fmt: skip
SOLVERS = {"diffrax", "torchdiffeq", "torchdyn", "torchode"}
PICKLES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def imported(file):
    """Every module that a file names in an import, wherever in it, with its dots resolved."""
    package = [NAME, *Path(file).parent.parts]
    for node in ast.walk(FILES[file]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            path = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import store` names a module, `from .store import digest` names what is in one.
            yield from (f"{path}.{alias.name}" for alias in node.names)


def libraries(file):
    return {name.partition(".")[0] for name in imported(file)}


def own(file):
    """Top-level names in the package that a file imports."""
    return {name.split(".")[1] for name in imported(file) if name.startswith(f"{NAME}.")} - {"__version__"}


def layer(file):
    """A program of a folder, its `__main__`, may use what lies above the folder."""
    path = Path(file)
    return path.stem if path.stem == "__main__" else path.parts[0].removesuffix(".py")


def calls(file):
    return [node for node in ast.walk(FILES[file]) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_imported_by_its_owners_only(library):
    users = {file.removesuffix(".py") for file in FILES if library in libraries(file)}
    assert users <= set(OWNERS[library])


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("frameworks/")])
def test_a_framework_imports_one_solver_library_at_most(file):
    assert len(libraries(file) & SOLVERS) <= 1


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("frameworks/")])
def test_a_framework_imports_what_is_below_it_and_the_base_alone(file):
    engine = {"fused", "threads"} if file == "frameworks/fused.py" else set()
    assert own(file) <= {"arrays", "errors", "frameworks", "intervals"} | engine
    inside = {name.split(".")[2] for name in imported(file) if name.startswith(f"{NAME}.frameworks.")}
    assert inside <= {"base", "_torch"}


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("arrays/")])
def test_an_array_library_imports_errors_and_the_base_alone(file):
    assert own(file) <= {"arrays", "errors"}
    assert {name.split(".")[2] for name in imported(file) if name.startswith(f"{NAME}.arrays.")} <= {"base"}


@pytest.mark.parametrize("file", [file for file in FILES if file != "__init__.py"])
def test_a_module_imports_nothing_from_above_it(file):
    assert layer(file) in RANK, f"say in LAYERS where {file} belongs"
    assert {name for name in own(file) if RANK[name] > RANK[layer(file)]} <= ON_DEMAND.get(file, set())


@pytest.mark.parametrize("file", ON_DEMAND)
def test_what_is_imported_on_demand_is_not_imported_otherwise(file):
    above = [node.module or "" for node in FILES[file].body if isinstance(node, ast.ImportFrom)]
    assert not any(name in module.split(".") for name in ON_DEMAND[file] for module in above)


@pytest.mark.parametrize(("one", "other"), [pair for names in LAYERS for pair in itertools.combinations(names, 2)])
def test_neighbours_in_a_layer_do_not_import_each_other_both_ways(one, other):
    down = any(other in own(file) for file in FILES if layer(file) == one)
    assert not (down and any(one in own(file) for file in FILES if layer(file) == other))


def test_the_package_itself_imports_nothing_but_what_imports_on_demand():
    assert set(imported("__init__.py")) <= {"__future__.annotations", "importlib.import_module", "typing.Any"}


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_asserted_since_python_can_leave_that_out(file):
    assert [node.lineno for node in ast.walk(FILES[file]) if isinstance(node, ast.Assert)] == []


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_pickled(file):
    assert libraries(file) & PICKLES == set()
    assert set(imported(file)) & {"torch.load", "torch.save", "numpy.load"} == set()


@pytest.mark.parametrize("file", FILES)
def test_nothing_may_be_unpickled(file):
    allowed = [
        call.lineno
        for call in calls(file)
        for keyword in call.keywords
        if keyword.arg in ("allow_pickle", "weights_only") and ast.unparse(keyword) != "allow_pickle=False"
    ]
    assert allowed == []


@pytest.mark.parametrize("file", FILES)
def test_no_function_is_called_that_runs_what_it_reads(file):
    forbidden = {
        "torch.load",
        "torch.save",
        "np.load",
        "numpy.load",
        "eval",
        "exec",
        "yaml.load",
        "yaml.unsafe_load",
        "compile",
    }
    assert {ast.unparse(call.func) for call in calls(file)} & forbidden == set()


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_instantiated_from_a_config(file):
    assert {name for name in imported(file) if name.startswith("hydra.utils") or name.endswith(".instantiate")} == set()
    assert {call.lineno for call in calls(file) if ast.unparse(call.func).endswith("instantiate")} == set()


def test_no_config_names_a_function(root):
    files = sorted((root / "conf").rglob("*.yaml"))
    assert files
    assert [path.name for path in files if "_target_" in path.read_text()] == []


def loaded_by(module, root):
    """Top-level modules in a fresh interpreter after an import."""
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", [NAME, f"{NAME}.cli", f"{NAME}.job", f"{NAME}.frameworks", f"{NAME}.saving"])
def test_what_needs_no_solver_loads_neither_jax_nor_torch(module, root):
    assert loaded_by(module, root) & {"jax", "torch", *SOLVERS} == set()


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("diffrax", {"torch", "torchdiffeq", "torchdyn", "torchode"}),
        ("torchode", {"jax", "diffrax", "torchdiffeq", "torchdyn"}),
        ("torchdiffeq", {"jax", "diffrax", "torchdyn", "torchode"}),
        ("torchdyn", {"jax", "diffrax", "torchode", "pytorch_lightning"}),  # it imports torchdiffeq itself
    ],
)
def test_a_framework_loads_its_own_libraries_alone(name, absent, root):
    loaded = loaded_by(f"{NAME}.frameworks.{name}", root)
    assert name in loaded
    assert loaded & (absent | {"hydra", "wandb", "matplotlib"}) == set()
