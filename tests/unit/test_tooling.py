"""The tools that guard the tree: each of them fails when what it guards against is there."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import setup_env
from lock import ARGUMENTS, HEADER, inputs_digest, pins
from lock import problems as lock_problems
from require_classes import REQUIRED, cases
from require_classes import problems as class_problems
from run_tests import Beside, Clock, why_no_prometheus, without

ROOT = Path(__file__).resolve().parents[2]

# The rules of conftest.py -------------------------------------------------------------------------

DRAWS = """
import random, pytest, numpy as np, torch

def test_python(): random.random()
def test_numpy(): np.random.rand()
def test_torch(): torch.rand(1)

def test_own_generators():
    random.Random(0).random()
    np.random.default_rng(0).random()
    torch.rand(1, generator=torch.Generator())

@pytest.mark.global_rng("a library draws")
def test_excused(): random.random()

def test_threads_are_changed(): torch.set_num_threads(3)
def test_threads_are_given_back(): assert torch.get_num_threads() == 1
"""


def run_pytest(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs ``source`` as a test file under this suite's conftest.py, in a process of its own."""
    (folder / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (folder / "test_it.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = global_rng\n    slow\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    # pytest cuts its summary to the terminal's width.
    env = {**os.environ, "COLUMNS": "300", "PYTEST_ADDOPTS": ""}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_only_tests_that_move_a_global_generator_fail(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, DRAWS, "--tb=no", "-rE")
    failed = set(
        re.findall(r"^ERROR .*::(\w+) - .*the global generator of ([\w.]+):", done.stdout, re.M)
    )
    wanted = {("test_python", "random"), ("test_numpy", "numpy.random"), ("test_torch", "torch")}
    assert failed == wanted, done.stdout
    assert "7 passed, 3 errors" in done.stdout


def test_tests_run_on_one_thread_unless_told_otherwise() -> None:
    assert os.environ["OMP_NUM_THREADS"].isdecimal()


# run_tests ----------------------------------------------------------------------------------------


def test_what_is_built_beside_the_tests_stops_with_them(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    script = f"echo $$ >{begun}.part; mv {begun}.part {begun}; sleep 600; true"
    with Beside("x", ["true"], ["sh", "-c", script]):
        while not begun.exists():
            time.sleep(0.01)
    for _ in range(500):  # whoever inherits it may take a moment to bury it
        if not Path("/proc", begun.read_text().strip()).exists():
            return
        time.sleep(0.01)
    pytest.fail("it still runs")


def test_a_build_that_fails_fails_the_run_and_shows_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    with Beside("tools", ["sh", "-c", "echo no compiler >&2; exit 3"], ["touch", "later"]) as build:
        assert not build.wait(clock)
    assert clock.report() == 1
    out = capsys.readouterr().out
    assert "tools could not be built:\nno compiler" in out
    assert "FAILED" in out


@pytest.mark.parametrize(("ci", "excused"), [("", ["--without", "prometheus"]), ("1", [])])
def test_a_class_that_cannot_run_is_told_and_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ci: str, excused: list[str]
) -> None:
    monkeypatch.setenv("CI", ci)
    assert without({"cluster": "", "prometheus": "no Debian: install it"}) == excused
    told = capsys.readouterr().out.strip()
    assert told == "== prometheus tests: not run: no Debian: install it"


def test_a_machine_without_prometheus_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup_env, "cache_dir", lambda: tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (
        why_no_prometheus() == "no prometheus on the PATH, and no Debian to get it from: install it"
    )
    for name in ("prometheus", "promtool"):
        (tmp_path / name).touch(0o755)
    assert why_no_prometheus() == ""


# require_classes ----------------------------------------------------------------------------------


def junit(*names: str, body: str = "") -> str:
    """A report with one test for each class name, markers as properties."""
    tests = "".join(
        f'<testcase classname="tests.{name}.test_x" name="test_y">{body}</testcase>'
        if name not in ("s3", "slow")
        else f'<testcase classname="tests.e2e.test_x" name="test_{name}"><properties>'
        f'<property name="class" value="{name}"/></properties>{body}</testcase>'
        for name in names
    )
    return f"<testsuites><testsuite>{tests}</testsuite></testsuites>"


def test_a_report_with_every_class_has_no_problem() -> None:
    assert list(class_problems(cases(junit(*REQUIRED)))) == []


@pytest.mark.parametrize("missing", REQUIRED)
def test_a_class_that_did_not_run_is_a_problem(missing: str) -> None:
    report = junit(*(name for name in REQUIRED if name not in (missing, "e2e")))
    found = list(class_problems(cases(report if missing != "e2e" else junit("unit"))))
    assert f"no test of the class {missing!r} ran" in found


def test_a_class_whose_tests_were_all_skipped_did_not_run() -> None:
    report = junit(*REQUIRED, body='<skipped message="no server"/>')
    found = list(class_problems(cases(report), allowed=("no server",)))
    assert found == [f"no test of the class {name!r} ran" for name in REQUIRED]


def test_only_a_listed_reason_may_skip_a_test() -> None:
    found = [*cases(junit(*REQUIRED)), *cases(junit("unit", body='<skipped message="no gpu"/>'))]
    assert list(class_problems(found, allowed=("no gpu",))) == []
    assert list(class_problems(found)) == ["tests.unit.test_x::test_y was skipped: no gpu"]


def test_a_class_that_cannot_run_here_may_be_named_and_no_other(tmp_path: Path) -> None:
    report = tmp_path / "junit-x.xml"
    report.write_text(junit(*(name for name in REQUIRED if name != "cluster")))
    command = [sys.executable, "tools/require_classes.py", str(report)]
    codes = {
        more: subprocess.run(
            [*command, *more], cwd=ROOT, capture_output=True, check=False
        ).returncode
        for more in ((), ("--without", "cluster"), ("--without", "e2e"))
    }
    assert codes == {(): 1, ("--without", "cluster"): 0, ("--without", "e2e"): 1}


def test_of_a_test_that_was_run_again_the_last_outcome_counts(tmp_path: Path) -> None:
    first, second = tmp_path / "junit-cluster.xml", tmp_path / "junit-cluster2.xml"
    first.write_text(junit(*REQUIRED, body="<failure/>"))
    second.write_text(junit("cluster"))
    done = subprocess.run(
        [sys.executable, "tools/require_classes.py", str(first), str(second)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"1 passed, {len(REQUIRED) - 1} failed, 0 skipped" in done.stdout


def test_markers_reach_the_report_that_pytest_writes(tmp_path: Path) -> None:
    source = "import pytest\n@pytest.mark.slow\ndef test_x(): pass\ndef test_y(): pass"
    done = run_pytest(tmp_path, source, "--junit-xml=report.xml")
    assert done.returncode == 0, done.stdout
    found = {c.name.rpartition("::")[2]: c for c in cases((tmp_path / "report.xml").read_text())}
    assert ("slow" in found["test_x"].classes, "slow" in found["test_y"].classes) == (True, False)


# lock ---------------------------------------------------------------------------------------------

PYPROJECT = (ROOT / "pyproject.toml").read_text()
HASHES = " \\\n    --hash=sha256:00\n"
GOOD = {name: f"{HEADER}{inputs_digest(PYPROJECT)}\na==1{HASHES}" for name in ARGUMENTS}


def test_the_locks_fit_pyproject() -> None:
    locks = {path.stem: path.read_text() for path in (ROOT / "requirements").glob("*.lock")}
    assert list(lock_problems(PYPROJECT, locks)) == []


def test_good_locks_have_no_problem() -> None:
    assert list(lock_problems(PYPROJECT, GOOD)) == []


@pytest.mark.parametrize(
    ("locks", "problem"),
    [
        ({k: v for k, v in GOOD.items() if k != "dev"}, "dev.lock: missing"),
        ({**GOOD, "run": "# old\n" + GOOD["run"]}, "run.lock: not made from"),
        ({**GOOD, "run": GOOD["run"] + f"b==2{HASHES}"}, "run.lock: b==2 is not what all.lock has"),
        ({**GOOD, "run": GOOD["run"].replace("a==1", "a==2")}, "run.lock: a==2 is not what"),
        (
            {k: v + f"nvidia-cublas==1{HASHES}" for k, v in GOOD.items()},
            "trainer-cpu.lock: nvidia-cublas is of no use without a GPU",
        ),
        ({**GOOD, "all": GOOD["all"] + "b==2\n"}, "all.lock: 'b==2' has no hash"),
        ({**GOOD, "all": GOOD["all"] + "b==2 ; sys_platform == 'linux'\n"}, "has no hash"),
        ({**GOOD, "setup": GOOD["setup"] + "--index-url x\n"}, "setup.lock: names a registry"),
        ({**GOOD, "setup": GOOD["setup"] + "b @ https://x/b.whl\n"}, "names a registry or a URL"),
    ],
)
def test_a_lock_that_does_not_fit_is_named(locks: dict[str, str], problem: str) -> None:
    assert any(problem in line for line in lock_problems(PYPROJECT, locks))


def test_a_changed_dependency_changes_the_digest_and_a_changed_rule_does_not() -> None:
    digest = inputs_digest(PYPROJECT)
    assert inputs_digest(PYPROJECT.replace("pyyaml>=6.0", "pyyaml>=6.1")) != digest
    assert inputs_digest(PYPROJECT.replace("line-length = 100", "line-length = 99")) == digest


def test_pins_keep_one_version_for_each_platform() -> None:
    text = f"n==1 ; python_version < '3.13'{HASHES}n==2 ; python_version >= '3.13'{HASHES}"
    assert pins(text) == {("n", "1"), ("n", "2")}


# setup_env ----------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with locks and nothing else, which ``setup_env`` takes for its own."""
    (tmp_path / "requirements").mkdir()
    for name in (*setup_env.SETS, *setup_env.APART):
        (tmp_path / "requirements" / f"{name}.lock").write_text(f"# {name}\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    monkeypatch.setattr(setup_env, "ROOT", tmp_path)
    return tmp_path


def test_an_environment_serves_its_set_and_smaller_ones(checkout: Path) -> None:
    state = setup_env.wanted_state("dev")
    served = [name for name in setup_env.SETS if setup_env.satisfied(state, name)]
    assert served == ["run", "dev"]


def test_an_environment_apart_serves_its_own_set_alone(checkout: Path) -> None:
    everything = (*setup_env.SETS, *setup_env.APART)
    for name in everything:
        state = setup_env.wanted_state(name)
        served = {n for n in everything if setup_env.satisfied(state, n)}
        assert (name in setup_env.APART) == (served == {name}) or name == "run"
        assert not served.isdisjoint({name})


@pytest.mark.parametrize("changed", ["requirements/dev.lock", "pyproject.toml"])
def test_a_changed_input_asks_for_a_new_set_up(checkout: Path, changed: str) -> None:
    state = setup_env.wanted_state("dev")
    with (checkout / changed).open("a") as file:
        file.write("# changed\n")
    assert not setup_env.satisfied(state, "dev")


@pytest.mark.parametrize("key", ["state", "checkout", "python", "platform"])
def test_a_half_made_moved_or_foreign_environment_is_not_used(checkout: Path, key: str) -> None:
    assert not setup_env.satisfied({**setup_env.wanted_state("run"), key: "other"}, "run")


def test_an_environment_that_set_up_did_not_make_is_left_alone(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "mine").touch()
    with pytest.raises(setup_env.SetupError, match="not made by `make setup`: move it away"):
        setup_env.make_environment(Path("uv"), checkout / ".venv", "run")
    assert [path.name for path in (checkout / ".venv").iterdir()] == ["mine"]


def test_a_set_up_that_fails_leaves_a_state_that_is_not_ready(checkout: Path) -> None:
    with pytest.raises(setup_env.SetupError, match="failed"):
        setup_env.make_environment(Path("/bin/false"), checkout / ".venv", "run")
    state = setup_env.read_state(checkout / ".venv")
    assert state["state"] == "making"
    assert not setup_env.satisfied(state, "run")


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_torn_state_file_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / setup_env.STATE).write_text(text)
    assert setup_env.read_state(tmp_path) == {}


def test_a_second_set_up_waits_for_the_first(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    code = (
        "import sys, pathlib, setup_env\n"
        f"with setup_env.locked(pathlib.Path({str(path)!r})): print('in')"
    )
    with setup_env.locked(path):
        second = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT / "tools", stdout=subprocess.PIPE, text=True
        )
        assert second.stdout is not None
        assert second.stdout.readline().startswith("setup: waiting for another set-up")
        assert second.poll() is None
    assert second.communicate(timeout=60)[0] == "in\n"


def test_settings_of_pip_are_passed_on_and_a_surrounding_environment_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    env = setup_env.tool_env()
    assert env["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert "PYTHONPATH" not in env


@pytest.mark.parametrize("script", ["setup_env.py", "run_tests.py"])
def test_an_older_python_can_read_the_script_that_tells_it_so(script: str) -> None:
    ast.parse((ROOT / "tools" / script).read_text(), feature_version=(3, 7))


def test_set_up_needs_the_standard_library_only() -> None:
    code = (
        "import json, sys; sys.path.insert(0, 'tools'); import setup_env; "
        "print(json.dumps(sorted(m.partition('.')[0] for m in sys.modules)))"
    )
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    known = {*sys.stdlib_module_names, "setup_env", "__main__"}
    assert set(json.loads(done.stdout)) - known == set()
