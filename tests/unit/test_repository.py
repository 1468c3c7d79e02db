"""The tree keeps its promises: examples parse, dependencies are justified, no code from data."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import m2r_operator
import m2r_train
from m2r_train.api import load_manifests, order
from m2r_train.api.claim import load_claim
from m2r_train.api.sweep import load_sweep
from m2r_train.sweeps.expansion import expand, load_base

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"m2r_train": ROOT / "m2r_train", "m2r_operator": ROOT / "operator" / "m2r_operator"}
SOURCES = sorted(path for folder in PACKAGES.values() for path in folder.rglob("*.py"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

REQUIRED = {"pyproject.toml", "README.md", "Makefile", "CHANGELOG.md", "operator", "m2r_train"}
REQUIRED |= {"crds", "tests", "examples", "docs", "bench", ".ci"}
OPTIONAL = {"images", "charts", "requirements", "tools", "CONTRIBUTING.md", "LICENSE"}
OPTIONAL |= {"mkdocs.yml", ".gitignore", ".dockerignore", ".gitattributes"}
MADE = {
    "m2r-store",
    "quickstart-report.html",
    "dist",
    ".git",
    ".venv",
    ".venv-rollout",
    ".venv-docs",
    "site",
    ".hypothesis",
}

# Two halves each, so that this file does not name what it forbids.
HOSTS = [a + b for a, b in [("pypi", ".org"), ("python", "hosted"), ("npm", "js.org")]]
HOSTS += [a + b for a, b in [("proxy.go", "lang"), ("crates", ".io"), ("repo.ma", "ven")]]
HOME = re.compile(r"(?<![\w.])/(root|home/\w+|Users/\w+)/")
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
UNSAFE_CALLS = {"eval", "exec", "__import__"}
# A reward of the user's own is code by its nature: one process runs it, apart (docs/adr/0015).
RUNS_A_USERS_FILE = ROOT / "m2r_train" / "ownrewards" / "worker.py"
# Import name -> distribution, where they differ.
DISTRIBUTIONS = {"yaml": "pyyaml", "PIL": "pillow", "skimage": "scikit-image",
                 "mlflow": "mlflow-skinny"}  # fmt: skip
# Parts of a distribution that are imported under a name of their own but pinned by their owner.
PARTS = {"pydantic_core": "pydantic"}


def unsafe(source: str) -> Iterator[str]:
    """What in ``source`` can run code from data: pickles, ``torch.load``, ``eval``, ``exec``."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found = {alias.name.partition(".")[0] for alias in names} & UNSAFE_MODULES
                yield from (f"line {node.lineno}: import {name}" for name in found)
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in UNSAFE_MODULES:
                yield f"line {node.lineno}: from {module} import"
            case ast.Call(func=ast.Name(id=name)) if name in UNSAFE_CALLS:
                yield f"line {node.lineno}: {name}(...)"
            case ast.Call(func=ast.Attribute(attr="exec_module" | "run_path" as name)):
                yield f"line {node.lineno}: {name}(...)"
            case ast.Call(func=ast.Attribute(ast.Name(id="torch"), "load" | "save" as name)):
                yield f"line {node.lineno}: torch.{name}(...)"
            case ast.ImportFrom(module="torch", names=names):
                bad = {alias.name for alias in names} & {"load", "save"}
                yield from (f"line {node.lineno}: from torch import {name}" for name in bad)
            case ast.keyword(arg="allow_pickle" | "trust_remote_code", value=value):
                if not (isinstance(value, ast.Constant) and value.value is False):
                    yield f"line {value.lineno}: {node.arg}"


def tracked_files() -> list[Path]:
    """Files of the tree that people wrote or generated for keeping; no caches, no results."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [f for f in folders if f not in MADE and not f.endswith(("_cache", "cache__"))]
        found += [Path(folder, name) for name in names if name not in MADE]
    return sorted(found)


def committed_top_level() -> set[str]:
    """Names at the top that are in git; in a tree without git (an archive) all that are there."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        return {path.name for path in ROOT.iterdir()}
    command = [git, "-C", str(ROOT), "ls-files", "-z"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {path.partition("/")[0] for path in listed.rstrip("\0").split("\0")}


def text_of(path: Path) -> str:
    """The file's text; empty for a file that is not text."""
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


def imported(source: str) -> set[str]:
    """Top-level names of absolute imports anywhere in ``source``, but for type checkers' ones."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def declared(*tables: list[str]) -> set[str]:
    """Normalised names of requirement lists."""
    lines = [line for table in tables for line in table]
    names = (re.match(r"[A-Za-z0-9._-]+", line) for line in lines)
    return {re.sub(r"[-_.]+", "-", name[0]).lower() for name in names if name}


def all_declared() -> set[str]:
    """Every distribution that pyproject.toml names."""
    project = PYPROJECT["project"]
    return declared(
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *PYPROJECT["dependency-groups"].values(),
        PYPROJECT["build-system"]["requires"],
    )


# Examples -----------------------------------------------------------------------------------------


def example_units() -> list[Path]:
    """What is applied together: a folder of manifests, or a file directly under ``examples/``."""
    found = {path for suffix in ("*.yaml", "*.yml") for path in (ROOT / "examples").rglob(suffix)}
    found -= set(example_sweeps()) | set(example_claims())
    return sorted({p if p.parent == ROOT / "examples" else p.parent for p in found})


def example_sweeps() -> list[Path]:
    """Sweeps are no manifests: they name some."""
    return sorted((ROOT / "examples").rglob("sweep*.yaml"))


def example_claims() -> list[Path]:
    return sorted((ROOT / "examples").rglob("claim*.yaml"))


@pytest.mark.parametrize("path", example_sweeps(), ids=lambda path: path.parent.name)
def test_every_example_of_a_sweep_expands(path: Path) -> None:
    sweep = load_sweep(path)
    runs = expand(sweep, load_base(sweep, path), path)
    assert {run.arm for run in runs} >= set(sweep.arms)


@pytest.mark.parametrize("path", example_claims(), ids=lambda path: path.parent.name)
def test_every_claim_of_an_example_names_arms_of_a_sweep_beside_it(path: Path) -> None:
    claim = load_claim(path)
    sweeps = [load_sweep(one) for one in sorted(path.parent.glob("sweep*.yaml"))]
    arms = [set(one.arms) for one in sweeps if claim.sweep in (None, one.name)]
    assert any({claim.treatment, *claim.controls} <= own for own in arms)


def test_there_are_examples() -> None:
    assert ROOT / "examples" / "quickstart" in example_units()


@pytest.mark.parametrize("path", example_units(), ids=lambda path: path.name)
def test_every_example_parses(path: Path) -> None:
    part = path.is_file() or path.name == "own"  # its sweep, expanded above, adds the rest
    assert order(load_manifests([path]), external=part)


# The tree -----------------------------------------------------------------------------------------


def test_the_top_level_is_the_documented_one() -> None:
    assert REQUIRED - {path.name for path in ROOT.iterdir()} == set()
    assert committed_top_level() - REQUIRED - OPTIONAL - MADE == set()


def test_operator_is_a_plain_folder_because_the_standard_library_owns_the_name() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_versions_agree_and_the_changelog_has_them() -> None:
    version = PYPROJECT["project"]["version"]
    assert m2r_train.__version__ == m2r_operator.__version__ == version
    assert re.search(rf"^## \[{re.escape(version)}\]", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_no_file_names_a_home_folder_or_a_package_registry() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in tracked_files()
        for text in [text_of(path)]
        for word in [host for host in HOSTS if host in text]
    ]
    found += [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked_files()
        if path.relative_to(ROOT).parts[0] not in ("tests", "images")  # made-up ones are fine there
        for match in HOME.finditer(text_of(path))
    ]
    assert found == []


@pytest.mark.parametrize("text", ["cd /root/x", "/home/jane/.cache", '"/Users/jane/x"'])
def test_the_search_knows_home_folders(text: str) -> None:
    assert HOME.search(text)


# The packages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_can_run_code_from_data(path: Path) -> None:
    found = list(unsafe(path.read_text()))
    assert (found == []) == (path != RUNS_A_USERS_FILE), found


def test_who_runs_a_users_file_knows_the_standard_library_alone_and_is_imported_by_nobody() -> None:
    outside = imported(RUNS_A_USERS_FILE.read_text()) - set(sys.stdlib_module_names)
    assert outside == {"m2r_train"}
    assert "from m2r_train import lifeline\n" in RUNS_A_USERS_FILE.read_text()
    others = [p for p in SOURCES if p != RUNS_A_USERS_FILE]
    assert [p for p in others if re.search(r"import.*\bownrewards.*worker", p.read_text())] == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import torch; torch.load('x')",
        "from torch import load",
        "eval('1')",
        "exec('x = 1')",
        "spec.loader.exec_module(module)",
        "runpy.run_path(path)",
        "np.load(f, allow_pickle=True)",
        "AutoModel.from_pretrained(p, trust_remote_code=flag)",
    ],
)
def test_the_search_for_unsafe_code_finds(source: str) -> None:
    assert list(unsafe(source))


@pytest.mark.parametrize("source", ["model.eval()", "json.load(f)", "x(allow_pickle=False)"])
def test_the_search_for_unsafe_code_leaves_alone(source: str) -> None:
    assert not list(unsafe(source))


def test_every_third_party_import_of_the_packages_is_a_declared_dependency() -> None:
    names = {name for path in SOURCES for name in imported(path.read_text())}
    outside = names - set(sys.stdlib_module_names) - set(PACKAGES)
    wanted = {PARTS.get(name) or DISTRIBUTIONS.get(name, name) for name in outside}
    assert {name.lower().replace("_", "-") for name in wanted} - all_declared() == set()


def test_every_dependency_is_justified_in_one_line() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|(.+)\|$", (ROOT / "docs/dependencies.md").read_text(), re.M)
    assert {name for name, _ in rows} == all_declared()
    assert [name for name, why in rows if len(why.strip()) < 20] == []
    assert len(rows) == len({name for name, _ in rows})


def test_every_dependency_is_bounded_from_below() -> None:
    project = PYPROJECT["project"]
    tables = [project["dependencies"], *project["optional-dependencies"].values()]
    assert [line for table in tables for line in table if not re.search(r"(>=|==)\d", line)] == []


def test_the_build_group_is_what_the_build_needs() -> None:
    assert PYPROJECT["dependency-groups"]["build"] == PYPROJECT["build-system"]["requires"]
