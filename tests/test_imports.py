"""What may import what, and what `import wsljax` costs. Every statement of every file is read."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "wsljax"
FILES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(file.relative_to(ROOT)) for file in FILES]

# Who may import whom among the rooms of the library; each may also import itself.
PILLAR = {"_compat", "symmetry", "interop", "zoo", "train"}
ARROWS = {
    "_compat": set(),
    "symmetry": {"_compat"},
    "train": {"_compat"},
    "interop": {"_compat", "symmetry"},
    "zoo": {"_compat", "symmetry", "interop", "train"},
    "understanding": PILLAR,
    "representation": PILLAR,
    "generation": PILLAR | {"understanding", "representation"},  # aligns what it generates
    "applications": PILLAR | {"understanding", "representation", "generation"},
}
CORE = {"jax", "flax", "optax", "equinox", "chex", "orbax", "numpy", "jaxtyping", "scipy"}
LAZY_CORE = {"flax", "orbax", "chex", "scipy"}  # core, but not part of the price of `import wsljax`
MODULE_OF = {
    "scikit-learn": "sklearn",
    "orbax-checkpoint": "orbax",
    "pillow": "PIL",
}  # where the names differ


class Import(NamedTuple):
    module: str
    line: int


def imports(source: str, package: str) -> list[Import]:
    """Every module that `source`, a file of `package`, imports: anywhere, functions included."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            # `from wsljax import zoo` is an import of wsljax.zoo
            found += [Import(f"{base}.{alias.name}", node.lineno) for alias in node.names]
    return found


def package_of(file: Path) -> str:
    return ".".join(file.parent.relative_to(ROOT).parts)


def of_file(file: Path) -> list[Import]:
    return imports(file.read_text(), package_of(file))


def room(module: str) -> str | None:
    """`wsljax.zoo.train.step` is in "zoo"."""
    parts = module.split(".")
    return parts[1] if parts[0] == "wsljax" and len(parts) > 1 else None


def forbidden_arrows(file: str, found: list[Import]) -> list[str]:
    here = Path(file).relative_to("wsljax").parts[0].removesuffix(".py")
    return [
        f"{file}:{line} imports {module}"
        for module, line in found
        if (target := room(module)) in ARROWS and target != here and target not in ARROWS[here]
    ]


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_arrows_point_up(file):
    if file == PACKAGE / "__init__.py":
        return  # the table of contents; what it may load is measured below
    assert not forbidden_arrows(str(file.relative_to(ROOT)), of_file(file))


def test_every_room_has_its_arrows():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    rooms = {name for name in rooms if not name.startswith("__")}
    assert rooms <= set(ARROWS), "a new room needs its line in ARROWS"


@pytest.mark.parametrize(
    "source, package, file, wrong",
    [
        ("from wsljax.zoo import train", "wsljax.symmetry", "wsljax/symmetry/spec.py", True),
        ("from wsljax import zoo", "wsljax.symmetry", "wsljax/symmetry/spec.py", True),
        ("from .. import zoo", "wsljax.symmetry", "wsljax/symmetry/spec.py", True),
        ("from ..zoo.store import Zoo", "wsljax.symmetry", "wsljax/symmetry/spec.py", True),
        ("def f():\n  import wsljax.zoo", "wsljax.train", "wsljax/train/loop.py", True),
        ("from ..generation import x", "wsljax.representation", "wsljax/representation/x.py", True),
        ("from ...representation import x", "wsljax.zoo.a", "wsljax/zoo/a/b.py", True),
        ("from .._compat import require", "wsljax.symmetry", "wsljax/symmetry/spec.py", False),
        ("from . import axes", "wsljax.symmetry", "wsljax/symmetry/spec.py", False),
        ("from wsljax.symmetry import Spec", "wsljax.zoo", "wsljax/zoo/store.py", False),
    ],
)
def test_the_reader_sees_every_spelling(source, package, file, wrong):
    assert bool(forbidden_arrows(file, imports(source, package))) == wrong


# -- packages of others ----------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_only_core_packages_are_imported(file):
    assert not foreign_imports(file.read_text(), package_of(file))


def foreign_imports(source: str, package: str = "wsljax.somewhere") -> list[Import]:
    """Imports beyond the core, save those in a function that has called `require` for them."""
    allowed = CORE | {"wsljax"} | set(sys.stdlib_module_names)
    required = [
        (call.args[0].value.split(".")[0], call.lineno, scope.end_lineno)
        for scope in ast.walk(ast.parse(source))
        if isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef))
        for call in ast.walk(scope)
        if isinstance(call, ast.Call) and getattr(call.func, "id", None) == "require"
        if call.args and isinstance(call.args[0], ast.Constant)
    ]
    return [
        Import(module, line)
        for module, line in imports(source, package)
        if (root := module.split(".")[0]) not in allowed
        and not any(root == name and first < line <= last for name, first, last in required)
    ]


@pytest.mark.parametrize(
    "source, wrong",
    [
        ("import sklearn", True),
        ("def f():\n  from sklearn import svm", True),
        ("try:\n  import rich\nexcept ImportError:\n  rich = None", True),
        ("def f():\n  require('sklearn', extra='x')\n  import rich", True),
        ("def f():\n  require('rich', extra='x')\nimport rich", True),
        ("def f():\n  import rich\n  require('rich', extra='x')", True),
        ("def f():\n  require('rich', extra='x')\n  from rich.console import Console", False),
        ("def f():\n  return require('sklearn.svm', extra='x')", False),
        ("import os, jax.numpy, wsljax.symmetry", False),
    ],
)
def test_the_reader_sees_foreign_imports(source, wrong):
    assert bool(foreign_imports(source)) == wrong


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_no_private_jax_outside_compat_and_no_experiments(file):
    for module, line in of_file(file):
        assert module.split(".")[0] not in {"experiments", "configs", "tests"}, f"{file}:{line}"
        if file.name != "_compat.py":
            assert not module.startswith("jax._src"), f"{file}:{line}"
    if file.name != "_compat.py":
        text = file.read_text()
        assert not re.search(r"\bjax\s*\.\s*_src\b", text), f"{file} reaches into jax._src"


@pytest.mark.parametrize(
    "file",
    [file for top in ("wsljax", "experiments", "configs") for file in (ROOT / top).rglob("*.py")],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_pmap_is_never_called(file):
    for node in ast.walk(ast.parse(file.read_text())):
        name = getattr(node, "attr", None) or getattr(node, "id", None)
        name = name or (node.name if isinstance(node, ast.alias) else None)
        assert name != "pmap", f"{file}:{getattr(node, 'lineno', '?')}"


@cache
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def distributions(requirements: list[str]) -> set[str]:
    """The import names behind requirement strings; `wsljax[x]` stands for what x brings."""
    names = set()
    for requirement in requirements:
        name = re.match(r"[A-Za-z0-9._-]+", requirement).group()
        if name == "wsljax":
            for extra in re.search(r"\[(.*)\]", requirement).group(1).split(","):
                names |= distributions(project()["optional-dependencies"][extra.strip()])
        else:
            names.add(MODULE_OF.get(name, name.replace("-", "_")))
    return names


def test_core_packages_are_the_dependencies():
    assert distributions(project()["dependencies"]) == CORE


@pytest.mark.parametrize(
    "file",
    [file for top in ("wsljax", "experiments") for file in (ROOT / top).rglob("*.py")],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_require_names_an_extra_that_brings_the_module(file):
    extras = project()["optional-dependencies"]
    for node in ast.walk(ast.parse(file.read_text())):
        if not (isinstance(node, ast.Call) and getattr(node.func, "id", None) == "require"):
            continue
        if file.name == "_compat.py":
            continue
        where = f"{file.relative_to(ROOT)}:{node.lineno}"
        module = ast.literal_eval(node.args[0]).split(".")[0]
        (extra,) = [ast.literal_eval(k.value) for k in node.keywords if k.arg == "extra"]
        assert extra in extras, f"{where}: there is no extra {extra!r}"
        assert module in distributions(extras[extra]), f"{where}: {extra!r} lacks {module}"


# -- what an import costs, and what it can do without ----------------------------------------------

SUBPACKAGES = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def run_python(code: str, *args: str):
    """Run `code` in a fresh interpreter from the root; its last line of output is JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code, *args], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


COST = """
import sys, json, importlib
import jax, equinox, optax
def roots():
    return {name.partition(".")[0] for name in sys.modules}
before = roots()
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted(roots() - before - set(sys.stdlib_module_names))))
"""


def test_importing_costs_jax_equinox_optax_and_nothing_more():
    assert run_python(COST, "wsljax") == ["wsljax"]


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_importing_a_subpackage_costs_nothing_more(name):
    assert run_python(COST, f"wsljax.{name}") == ["wsljax"]


def test_the_measure_of_cost_sees_an_import():
    assert "sklearn" in run_python(COST, "wsljax", "sklearn")


def test_the_table_of_contents_is_complete_and_lazy():
    code = """
import json, sys, wsljax
early = sorted(name for name in sys.modules if name.startswith("wsljax."))
listed = [name for name in wsljax.__all__ if not name.startswith("_")]
loaded = [getattr(wsljax, name).__name__ for name in listed]
print(json.dumps([early, listed, loaded, sorted(set(listed) - set(dir(wsljax)))]))
"""
    early, listed, loaded, hidden = run_python(code)
    assert early == []
    assert listed == SUBPACKAGES
    assert loaded == [f"wsljax.{name}" for name in listed]
    assert hidden == []


BLOCKED = """
import importlib, importlib.abc, json, pkgutil, sys
blocked = set(json.loads(sys.argv[1]))

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
import wsljax
from wsljax._compat import require
names = [m.name for m in pkgutil.walk_packages(wsljax.__path__, "wsljax.")]
for name in names:
    importlib.import_module(name)
errors = {}
for module in sorted(blocked):
    try:
        require(module, extra="experiments")
    except ImportError as error:
        errors[module] = str(error)
print(json.dumps([names, errors]))
"""


def test_every_module_imports_without_the_extras():
    extras = project()["optional-dependencies"]
    blocked = set().union(*(distributions(extra) for extra in extras.values())) - CORE
    assert {"sklearn", "matplotlib", "rich", "tyro", "safetensors"} <= blocked
    names, errors = run_python(BLOCKED, json.dumps(sorted(blocked)))
    assert len(names) == len(FILES) - 1
    assert set(errors) == blocked
    for module, message in errors.items():
        assert message.startswith(f"`{module}` is not installed")
        assert 'pip install "wsljax[experiments]"' in message
