"""Programs out of Debian's packages: found, unpacked once, and clear where that cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import debian
import pytest
from setup_env import SetupError


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose only programs are those in ``bin``, and a cache of its own."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(debian.setup_env, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return tmp_path


def program(home: Path, name: str, script: str) -> Path:
    """A shell script on the PATH; what it does is noted in ``calls``."""
    path = home / "bin" / name
    path.write_text(f'#!/bin/sh\necho "{name} $*" >> {home}/calls\n{script}\n')
    path.chmod(0o755)
    return path


def calls(home: Path) -> list[str]:
    return (home / "calls").read_text().splitlines()


MKDIR, TOUCH = "/bin/mkdir", "/bin/touch"
UNPACK = f'{MKDIR} -p "$3/usr/bin" && {TOUCH} "$3/usr/bin/prometheus"'


def test_what_is_on_the_path_is_taken_as_it_is(machine: Path) -> None:
    there = program(machine, "prometheus", "")
    assert debian.program("prometheus", "prometheus") == there


def test_a_package_is_downloaded_and_unpacked_once_and_never_installed(machine: Path) -> None:
    program(machine, "apt-get", f"{TOUCH} prometheus_2_amd64.deb")
    program(machine, "dpkg-deb", UNPACK)
    found = debian.program("prometheus", "prometheus")
    assert found.is_file()
    assert found.is_relative_to(machine / "cache")
    assert debian.program("prometheus", "prometheus") == found
    assert [line.split()[:3] for line in calls(machine)] == [
        ["apt-get", "-qq", "download"],
        ["dpkg-deb", "-x", calls(machine)[1].split()[2]],
    ]
    left = [p.name for p in (machine / "cache" / "tools").iterdir() if p.name.startswith(".")]
    assert left == []


def test_root_renews_lists_that_are_too_old(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    fresh = machine / "fresh"
    program(
        machine, "apt-get",
        f'if [ "$2" = update ]; then {TOUCH} {fresh}; exit 0; fi\n'
        f"[ -e {fresh} ] || exit 100\n{TOUCH} prometheus_2_amd64.deb",
    )  # fmt: skip
    program(machine, "dpkg-deb", UNPACK)
    assert debian.program("prometheus", "prometheus").is_file()
    assert [line.split()[2] for line in calls(machine)[:3]] == ["download", "update", "download"]


def test_a_download_that_fails_names_the_remedy_and_leaves_nothing(machine: Path) -> None:
    program(machine, "apt-get", 'echo "E: Unable to locate package" >&2; exit 100')
    program(machine, "dpkg-deb", "")
    with pytest.raises(SetupError, match=r"cannot download prometheus: check the network.*locate"):
        debian.program("prometheus", "prometheus")
    assert [p for p in (machine / "cache" / "tools").iterdir() if p.is_dir()] == []


def test_without_debian_it_says_what_to_install(machine: Path) -> None:
    with pytest.raises(SetupError, match="no Debian to get it from: install it"):
        debian.program("prometheus", "prometheus")


def test_a_package_without_the_program_is_named(machine: Path) -> None:
    program(machine, "apt-get", f"{TOUCH} other_1_amd64.deb")
    program(machine, "dpkg-deb", f'{MKDIR} -p "$3/usr"')
    with pytest.raises(SetupError, match="package other has no usr/bin/prometheus"):
        debian.program("prometheus", "other")
