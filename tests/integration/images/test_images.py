"""The images, really built and run: what is in them, who may write where, how process 1 ends."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from images.archive import documents
from images.base import base_image
from images.container import Rootfs, mounted
from packaging.requirements import Requirement
from runs import files_under, manifests, write

from images import RECIPES, Image, build
from m2r_train.api import RunMetadata, RunSpec, RunStorage, load_manifests, resolved

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("operator", "trainer-cpu")
# Where a user other than root may write, in the image itself; a pod mounts volumes over the first.
WRITABLE = {"tmp", "cache", "var/tmp", "run/lock"}
DISTRIBUTIONS = (
    "import importlib.metadata as m, json; "
    "print(json.dumps(sorted([d.name, d.version] for d in m.distributions())))"
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]  # root; builds for minutes at first


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """Each image in turn."""
    return str(request.param)


@pytest.fixture(scope="module")
def image(name: str) -> Image:
    """The image, built or found."""
    return build(name)


@pytest.fixture(scope="module")
def rootfs(image: Image) -> Iterator[Rootfs]:
    """Its files, mounted."""
    with mounted(image) as found:
        yield found


@pytest.fixture(scope="module")
def trainer() -> Iterator[Rootfs]:
    """The trainer's image for CPUs, mounted."""
    with mounted(build("trainer-cpu")) as found:
        yield found


def normal(name: str) -> str:
    """A distribution's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(lock: Path, environment: dict[str, str]) -> set[tuple[str, str]]:
    """What a universal lock means for one machine and Python."""
    found = set()
    for line in re.findall(r"^([A-Za-z0-9._-]+==[^\\\n]+)", lock.read_text(), re.MULTILINE):
        wanted = Requirement(line.strip())
        if wanted.marker is None or wanted.marker.evaluate(environment):
            found.add((normal(wanted.name), str(wanted.specifier).removeprefix("==")))
    return found


def test_the_configuration_is_that_of_a_restricted_pod(image: Image, rootfs: Rootfs) -> None:
    assert rootfs.config["User"] == "65532:0"
    assert rootfs.config["Entrypoint"] == ["m2r-operator" if image.name == "operator" else "m2r"]
    labels = rootfs.config["Labels"]
    assert labels["org.opencontainers.image.version"] == image.short.split(":")[1].split("-")[0]
    assert labels["org.opencontainers.image.title"] == RECIPES[image.name].name
    assert rootfs.environment["PYTHONUNBUFFERED"] == "1"
    for variable in ("HOME", "XDG_CACHE_HOME", "M2R_CACHE"):
        assert rootfs.environment[variable].startswith("/cache")


def test_the_libraries_are_those_of_the_lock(name: str, rootfs: Rootfs) -> None:
    done = rootfs.run("python", "-c", DISTRIBUTIONS)
    assert done.returncode == 0, done.stderr
    found = {(normal(one), version) for one, version in json.loads(done.stdout)}
    python = rootfs.run("python", "-c", "import platform; print(platform.python_version())").stdout
    version = python.strip()
    environment = {
        "python_full_version": version,
        "python_version": ".".join(version.split(".")[:2]),
    }
    wanted = locked(ROOT / "requirements" / f"{name}.lock", environment)
    own = {one for one in found if one[0] == "m2r"}
    assert found - own == wanted
    assert [one for one, _ in own] == ["m2r"]


def test_the_operator_has_no_torch_and_the_trainer_no_operators_libraries(
    name: str, rootfs: Rootfs
) -> None:
    absent = {"operator": ("torch", "numpy", "boto3"), "trainer-cpu": ("kopf", "kubernetes")}[name]
    code = f"import importlib.util as u; print([n for n in {absent} if u.find_spec(n)])"
    assert rootfs.run("python", "-c", code).stdout == "[]\n"


def test_nothing_of_this_machine_is_baked_in(image: Image, rootfs: Rootfs) -> None:
    for path in ("etc/pip.conf", "etc/uv", "root/.config", "root/.cache", "root/.netrc"):
        assert not (rootfs.path / path).exists(), path
    for folder in ("mnt", "var/lib/apt/lists", "var/cache/apt", "build", "src"):
        found = rootfs.path / folder
        assert not found.exists() or list(found.iterdir()) == [], folder
    assert "://" not in (rootfs.path / "etc/apt/sources.list").read_text()
    member = "./etc/ssl/certs/ca-certificates.crt"
    base = base_image()
    layer = subprocess.run(
        ["tar", "-xOf", base.archive, documents(base.archive)[0]["Layers"][0]],
        check=True, stdout=subprocess.PIPE,
    ).stdout  # fmt: skip
    bundle = subprocess.run(
        ["tar", "-xO", member], input=layer, check=True, stdout=subprocess.PIPE
    ).stdout
    assert bundle.startswith(b"-----BEGIN CERTIFICATE-----")
    assert (rootfs.path / member).read_bytes() == bundle  # the distribution's, not this machine's
    history = [step.get("created_by", "") for step in documents(image.archive)[1]["history"]]
    words = [*rootfs.environment.values(), *history]
    assert [word for word in words if re.search(r"://[^/\s]*@|index-url|INDEX_URL", word)] == []


def test_its_user_may_write_to_volumes_only(rootfs: Rootfs) -> None:
    may = [
        "-perm",
        "-0002",
        "-o",
        "-user",
        "65532",
        "-o",
        "(",
        "-group",
        "0",
        "-perm",
        "-0020",
        ")",
    ]
    command = ["find", ".", "-xdev", "!", "-type", "l", "(", *may, ")", "-printf", "%P\\n"]
    found = subprocess.run(command, cwd=rootfs.path, check=True, stdout=subprocess.PIPE, text=True)
    assert set(found.stdout.split()) <= WRITABLE
    script = "for f in /opt/m2r/x /etc/x /x; do touch $f && exit 1; done; touch /cache/x /tmp/x"
    assert rootfs.run("sh", "-c", script).returncode == 0


def test_byte_code_is_there_for_every_module_and_is_taken_unchecked(rootfs: Rootfs) -> None:
    packages = next((rootfs.path / "opt/m2r/lib").glob("python3*")) / "site-packages"
    tag = f"cpython-{packages.parent.name.removeprefix('python').replace('.', '')}"
    for package in ("m2r_train", "m2r_operator", "yaml", "prometheus_client"):
        for source in (packages / package).rglob("*.py"):
            code = source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc"
            assert code.read_bytes()[4:8] == b"\x01\0\0\0", source  # by hash, not checked
    base = next((rootfs.path / "usr/lib").glob("python3.*"))
    assert (base / "__pycache__" / f"argparse.{tag}.pyc").exists()


def test_the_entrypoint_runs_as_an_unprivileged_user(name: str, rootfs: Rootfs) -> None:
    entry = rootfs.config["Entrypoint"]
    done = rootfs.run(*entry, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "sage" in done.stdout
    status = rootfs.run("cat", "/proc/self/status").stdout
    assert re.search(r"^Uid:\s+65532\s", status, re.M)
    assert re.search(r"^CapEff:\s+0+$", status, re.M)


def test_every_module_of_the_operator_can_be_imported() -> None:
    modules = sorted(path.stem for path in (ROOT / "operator/m2r_operator").glob("[a-z]*.py"))
    code = "import importlib, sys\n" + "".join(
        f"importlib.import_module('m2r_operator.{module}')\n" for module in modules
    )
    with mounted(build("operator")) as rootfs:
        done = rootfs.run("python", "-c", code)
    assert (done.returncode, done.stderr) == (0, "")


# The trainer --------------------------------------------------------------------------------------


def data_spec(folder: Path, store: str) -> RunSpec:
    """The run spec of a small synthesis, as the operator mounts it."""
    documents = manifests("data")
    [resource] = load_manifests([write(documents, folder / "manifests")])
    return RunSpec(
        kind="DataSynthesisJob",
        metadata=RunMetadata(name="data", uid="0123456789abcdef"),
        storage=RunStorage(uri=store),
        seed=7,
        spec=resolved(resource.spec),
    )


def test_the_images_torch_runs_on_cpus_and_says_that_there_is_no_gpu(trainer: Rootfs) -> None:
    code = (
        "import torch\n"
        "x = torch.arange(6.0).reshape(2, 3).requires_grad_()\n"
        "(torch.nn.functional.scaled_dot_product_attention(x[None], x[None], x[None])).sum()"
        ".backward()\n"
        "torch.linalg.svd(x.detach())\n"
        "print(torch.cuda.is_available(), torch.cuda.device_count(), bool(x.grad.isfinite().all()))"
    )
    done = trainer.run("python", "-c", code)
    assert (done.returncode, done.stdout) == (0, "False 0 True\n"), done.stderr


def test_a_call_into_cuda_says_which_image_has_it(trainer: Rootfs) -> None:
    done = trainer.run("python", "-c", "import torch; torch.backends.cudnn.version()")
    assert done.returncode != 0
    assert "this image is for CPUs and has no CUDA" in done.stderr


def test_a_stage_in_the_image_gives_the_bytes_that_it_gives_here(
    trainer: Rootfs, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "run.json").write_text(data_spec(tmp_path, "file:///tmp/shared/store").to_json())
    words = {"M2R_TERMINATION_LOG": "/tmp/shared/last", "OMP_NUM_THREADS": "1"}
    stage = ["m2r", "stage", "--spec", "/tmp/shared/run.json", "--port", "0"]
    done = trainer.run(*stage, shared={shared: "shared"}, env=words)
    assert done.returncode == 0, done.stderr
    assert json.loads((shared / "last").read_text())["exitCode"] == 0

    here = tmp_path / "here"
    here.mkdir()
    (here / "run.json").write_text(data_spec(tmp_path, (here / "store").as_uri()).to_json())
    env = {**os.environ, "M2R_CACHE": str(here), "M2R_TERMINATION_LOG": str(here / "last")}
    env |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "m2r_train", "stage", "--port", "0", "--spec"]
    subprocess.run([*command, str(here / "run.json")], env=env, check=True, capture_output=True)
    ours, theirs = dataset_of(here / "store"), dataset_of(shared / "store")
    assert ours == theirs
    assert len(ours) > 3


def dataset_of(store: Path) -> dict[str, bytes]:
    """The files of the result."""
    [folder] = store.rglob("dataset")
    return files_under(folder)


@pytest.mark.parametrize("after", [0.0, 1.0])
def test_process_1_hears_sigterm_also_while_it_imports(
    trainer: Rootfs, tmp_path: Path, after: float
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    spec = data_spec(tmp_path, "file:///tmp/shared/store")
    spec.spec["sources"][0]["simulator"]["scenes"] = 100_000  # minutes of work
    (shared / "run.json").write_text(spec.to_json())
    stage = ["m2r", "stage", "--spec", "/tmp/shared/run.json", "--port", "0"]
    words = {"M2R_TERMINATION_LOG": "/tmp/shared/last"}
    command = trainer.command(*stage, shared={shared: "shared"}, env=words)
    outer = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        inner = first_process(outer.pid)
        wait_for_handler(inner)
        time.sleep(after)
        os.kill(inner, signal.SIGTERM)
        assert outer.wait(60) == 75
    finally:
        outer.kill()
        outer.communicate()
    assert json.loads((shared / "last").read_text())["exitCode"] == 75


def first_process(unshare: int) -> int:
    """The process that is number 1 in there, by its number out here."""
    children = Path(f"/proc/{unshare}/task/{unshare}/children")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if found := children.read_text().split():
            return int(found[0])
        time.sleep(0.01)
    raise TimeoutError("unshare started nothing")


def wait_for_handler(pid: int) -> None:
    """Until the process takes SIGTERM: before that, number 1 of a container cannot be told."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        mask = re.search(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.M)
        if mask and int(mask[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.01)
    raise TimeoutError("no handler of SIGTERM within a minute")


def test_the_console_script_is_the_one_that_listens_before_it_imports() -> None:
    assert importlib.util.find_spec("m2r_train.__main__") is not None
    assert 'm2r = "m2r_train.__main__:main"' in (ROOT / "pyproject.toml").read_text()
