"""Set-up from nothing: ``python3 tools/setup_env.py [run|dev|bench|all]`` makes ``.venv``, and
``... rollout-cpu`` makes ``.venv-rollout``, which has vLLM for CPUs besides all of ``dev``;
``... docs`` makes ``.venv-docs`` with what builds the documentation site, without the project.

Standard library only, no root, no compiler. Two steps: uv, at the version and hashes of
``requirements/setup.lock``, goes into the user's cache (``$M2R_CACHE``, else
``$XDG_CACHE_HOME/m2r``; keyed by version); then ``.venv`` in the checkout is filled from
``requirements/<set>.lock`` with hashes required, and the project is added in editable form. uv
keeps what it downloads in its own cache, outside the tree, and links it into ``.venv``, so a second
checkout costs seconds and almost no disk.

``.venv/m2r-setup.json`` is written first ("making") and last ("ready"): an environment that was
left half-made is made again, one that is ready and fits is left alone, and one that this script did
not make is never touched. Concurrent runs wait for each other.
"""

import sys

# Before anything that an older Python lacks: this file must still parse and say what it needs.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        "setup: Python >= 3.11 is needed, this is {}.{}: install a newer one and run "
        "`make PYTHON=python3.11 ...`".format(*sys.version_info[:2])
    )

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SETS = ("run", "dev", "bench", "all")  # each one contains those before it
# Sets with a folder of their own: docs/adr/0007.
APART = {"rollout-cpu": ".venv-rollout", "docs": ".venv-docs"}
BARE = ("docs",)  # without the project
STATE = "m2r-setup.json"
# Settings of pip that uv knows by another name: a mirror or an own CA is set up once for both.
PIP_TO_UV = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_CERT": "SSL_CERT_FILE",
    "PIP_DEFAULT_TIMEOUT": "UV_HTTP_TIMEOUT",
}


class SetupError(Exception):
    """One line for people: what is wrong and what to do."""


def cache_dir() -> Path:
    """Where downloads and builds live, outside every checkout."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("M2R_CACHE") or Path(base) / "m2r")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on ``path``; waits, and says so, while another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another set-up ({path})")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    """One progress line."""
    print(f"setup: {text}", flush=True)


def tool_env() -> dict[str, str]:
    """The environment for pip and uv: nothing of a surrounding environment leaks in."""
    leaks = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE", "PIP_TARGET")
    env = {name: value for name, value in os.environ.items() if name not in leaks}
    for pip_name, uv_name in PIP_TO_UV.items():
        if pip_name in env:
            env.setdefault(uv_name, env[pip_name])
    env.setdefault("UV_HTTP_TIMEOUT", "180")
    return {**env, "UV_PYTHON_DOWNLOADS": "never", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def run(command: list[str], remedy: str) -> None:
    """Runs a tool with its output shown; raises ``SetupError`` if it fails."""
    done = subprocess.run(command, cwd=ROOT, env=tool_env(), check=False)
    if done.returncode != 0:
        shown = " ".join([Path(command[0]).name, *command[1:4]])
        raise SetupError(f"`{shown} ...` failed ({done.returncode}), see above: {remedy}")


def uv_version(root: Path = ROOT) -> str:
    """The version of uv that ``requirements/setup.lock`` pins."""
    path = root / "requirements" / "setup.lock"
    found = re.search(r"^uv==(\S+)", path.read_text(), re.MULTILINE) if path.is_file() else None
    if found is None:
        raise SetupError(f"{path}: no line `uv==VERSION`: restore the file from git")
    return found[1]


def bootstrap() -> tuple[Path, Path]:
    """uv, and a Python that has pip; installed into the cache on first use."""
    home = cache_dir() / f"uv-{uv_version()}-py{platform.python_version()}-{platform.machine()}"
    # With ensurepip a venv of its own; without it (Debian's bare python3), the system's pip.
    python = home / "bin" / "python" if has_module("ensurepip") else Path(sys.executable)
    with locked(home.with_suffix(home.suffix + ".lock")):
        if not (home / "ready").exists():
            say(f"uv {uv_version()} into {home}")
            shutil.rmtree(home, ignore_errors=True)
            install_uv(home, python)
            (home / "ready").touch()
    return home / "bin" / "uv", python


def install_uv(home: Path, python: Path) -> None:
    """Fills ``home`` with uv, from the registry that pip is set up for, checked by hash."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes"]
    lock = str(ROOT / "requirements" / "setup.lock")
    network = "check the network and pip's settings"
    if has_module("ensurepip"):
        run([sys.executable, "-m", "venv", str(home)], "check that the cache can be written")
        run([*pip, "-r", lock], network)
    elif has_module("pip"):
        run([*pip, "--target", str(home), "-r", lock], network)
    else:
        raise SetupError(
            f"{sys.executable} has neither ensurepip nor pip: install them "
            "(Debian, Ubuntu: the package python3-venv)"
        )


def has_module(name: str) -> bool:
    """Whether this Python could import ``name``."""
    return importlib.util.find_spec(name) is not None


def wanted_state(which: str) -> dict[str, str]:
    """What an environment made now from the set ``which`` is made of; equal means usable."""
    digest = hashlib.sha256()
    for path in (ROOT / "requirements" / f"{which}.lock", ROOT / "pyproject.toml"):
        if not path.is_file():
            raise SetupError(f"{path} is missing: restore it from git, or run `make lock`")
        digest.update(path.read_bytes())
    return {
        "state": "ready",
        "set": which,
        "inputs": digest.hexdigest(),
        "checkout": str(ROOT),  # a copied or moved checkout has wrong paths inside
        "python": f"{platform.python_version()} {os.path.realpath(sys.executable)}",
        "platform": f"{sys.platform} {platform.machine()}",
    }


def read_state(venv: Path) -> dict[str, str]:
    """What ``venv`` was made of; empty for one that was never begun or is foreign."""
    try:
        state = json.loads((venv / STATE).read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(venv: Path, state: dict[str, str]) -> None:
    """Replaces the state file in one step."""
    fresh = venv / f"{STATE}.new"
    fresh.write_text(json.dumps(state, indent=1) + "\n")
    fresh.replace(venv / STATE)


def satisfied(state: dict[str, str], which: str) -> bool:
    """Whether an environment in ``state`` serves ``which``: it, or a larger set, as of now."""
    have = state.get("set")
    if have is None or have not in (*SETS, *APART):
        return False
    if have != which and (have in APART or which in APART or SETS.index(have) < SETS.index(which)):
        return False
    return state == wanted_state(have)


def make_environment(uv: Path, venv: Path, which: str) -> None:
    """Brings ``venv`` to the set ``which``: in place where the same Python made it, else anew."""
    state, wanted = read_state(venv), wanted_state(which)
    if not state and venv.exists() and any(venv.iterdir()):
        raise SetupError(f"{venv} exists and was not made by `make setup`: move it away")
    same = all(state.get(key) == wanted[key] for key in ("checkout", "python", "platform"))
    if not (same and state.get("state") == "ready"):
        if venv.exists():
            shutil.rmtree(venv)
        venv.mkdir()
    write_state(venv, {**wanted, "state": "making"})
    python = str(venv / "bin" / "python")
    quiet = [] if sys.stderr.isatty() else ["--no-progress"]
    if not Path(python).exists():
        options = ["--quiet", "--allow-existing", "--python", sys.executable]
        run([str(uv), "venv", *options, str(venv)], "check that the checkout can be written")
    lock = f"requirements/{which}.lock"
    sync = [str(uv), "pip", "sync", *quiet, "--python", python, "--require-hashes", lock]
    run(sync, "check the network, the disk's free space (8 GB) and pip's or uv's index settings")
    if which not in BARE:
        own = ["--quiet", "--no-deps", "--no-build-isolation", "--offline", "--editable", "."]
        run([str(uv), "pip", "install", "--python", python, *own], "check pyproject.toml")
    write_state(venv, wanted)


def setup(which: str) -> Path:
    """The ready environment's Python for the set ``which``; raises ``SetupError``."""
    venv, start = ROOT / APART.get(which, ".venv"), time.monotonic()
    name = hashlib.sha256(str(ROOT).encode()).hexdigest()[:16]
    with locked(cache_dir() / "locks" / f"{name}.lock"):
        if not satisfied(read_state(venv), which):
            uv, _ = bootstrap()
            size = "" if which in BARE else " (first time: about 3 GB to download)"
            say(f"{venv} from requirements/{which}.lock{size}")
            make_environment(uv, venv, which)
            say(f"ready after {time.monotonic() - start:.1f} s")
    return venv / "bin" / "python"


def main(arguments: list[str]) -> int:
    """The command line: see the module's docstring."""
    which = arguments[0] if arguments else "run"
    if which not in (*SETS, *APART) or len(arguments) > 1:
        known = "|".join((*SETS, *APART))
        print(f"usage: python3 tools/setup_env.py [{known}]", file=sys.stderr)
        return 2
    try:
        setup(which)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"setup: {error}: check the free space and the rights", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
