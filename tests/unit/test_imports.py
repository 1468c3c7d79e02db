"""What may be imported where: proven in bare processes, not by reading import statements."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "numpy", "boto3")
CLUSTER = ("kubernetes", "kopf")

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked in this test")
sys.meta_path.insert(0, Block())
"""

MANIFEST = """\
apiVersion: m2r.dev/v1alpha1
kind: SFTJob
metadata: {name: ci}
spec:
  model: {preset: tiny}
  dataset: {uri: "file:///data", split: sft}
"""


def python(code: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Runs ``code`` in a new interpreter that sees the two packages and little else."""
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    env |= {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "operator")])}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def loaded_by(module: str) -> set[str]:
    """Top-level modules that importing ``module`` alone brings in."""
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = python(code)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def m2r(*arguments: str, blocked: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """The command ``m2r`` where importing any of ``blocked`` raises."""
    code = f"BLOCKED = {blocked!r}\n{BLOCK}\nfrom m2r_train.cli import main\nmain()"
    return python(code, *arguments)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("m2r_train", (*HEAVY, *CLUSTER, "pydantic", "yaml", "typer")),
        ("m2r_train.api", (*HEAVY, *CLUSTER, "typer", "rich")),
        ("m2r_train.cli", (*HEAVY, *CLUSTER)),
        ("m2r_train.__main__", (*HEAVY, *CLUSTER, "pydantic", "yaml", "typer")),
        ("m2r_train.pod", (*HEAVY, *CLUSTER)),
        ("m2r_train.stages.entry", ("torch", "transformers", "boto3", *CLUSTER)),
        ("m2r_train.stages.synthesize", ("torch", "transformers", "boto3", *CLUSTER)),
        ("m2r_train.scoring", ("torch", "transformers", "boto3", "pyarrow", "sympy", *CLUSTER)),
        ("m2r_operator", HEAVY),
    ],
)
def test_importing_a_light_module_leaves_heavy_ones_out(
    module: str, absent: tuple[str, ...]
) -> None:
    assert loaded_by(module) & set(absent) == set()


def test_the_probe_sees_a_heavy_import() -> None:
    assert "numpy" in loaded_by("numpy.linalg")


def test_the_blocker_blocks() -> None:
    done = python(f"BLOCKED = ('torch',)\n{BLOCK}\nimport torch")
    assert done.returncode != 0
    assert "torch is blocked in this test" in done.stderr


def test_m2r_validate_works_without_the_trainers_libraries(tmp_path: Path) -> None:
    manifest = tmp_path / "sft.yaml"
    manifest.write_text(MANIFEST)
    done = m2r("validate", "-f", str(manifest), blocked=(*HEAVY, *CLUSTER))
    assert (done.returncode, done.stderr) == (0, "")
    assert "SFTJob/ci" in done.stdout


def test_m2r_crds_check_works_without_the_trainers_libraries() -> None:
    done = m2r("crds", "--check", blocked=(*HEAVY, *CLUSTER))
    assert (done.returncode, done.stderr) == (0, "")


def test_m2r_score_works_without_torch(tmp_path: Path) -> None:
    record = tmp_path / "in.jsonl"
    record.write_text('{"answer": "A", "skill": "spatial", "prediction": "<answer>A</answer>"}\n')
    paths = ("--input", str(record), "--out", str(tmp_path / "out"))
    done = m2r("score", "logicvista", *paths, blocked=("torch", "transformers", "boto3", *CLUSTER))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "logicvista accuracy: 100.00 (n = 1)\n"
