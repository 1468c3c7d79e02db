"""Images: what Dockerfiles keep to, and what the tool that builds them decides."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest
from images.lint import parse, problems

from images import archive, base, machine, recipes
from images import building as builder

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted([*ROOT.glob("images/*.Dockerfile"), ROOT / "tests/cluster/standin/Dockerfile"])
DEBIAN = """\
bookworm main http://mirror.example/debian/
bookworm-updates main http://mirror.example/debian/
bookworm-security main http://mirror.example/debian-security/
vendor main https://vendor.example/apt/
"""

# Dockerfiles --------------------------------------------------------------------------------------

GOOD = """\
ARG BASE=docker.io/library/python:3.11.13-slim-bookworm
FROM ${BASE} AS libraries
COPY requirements/run.lock /build/
RUN apt-get update && apt-get install --yes --no-install-recommends gcc && \\
    rm -rf /var/lib/apt/lists/*
RUN pip install --require-hashes -r /build/run.lock
FROM ${BASE} AS last
COPY --from=libraries /opt/m2r /opt/m2r
USER 65532:0
ENTRYPOINT ["m2r"]
"""


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_dockerfile_keeps_the_rules(path: Path) -> None:
    assert list(problems(path.read_text())) == []


def test_there_are_images_for_the_operator_and_the_trainer() -> None:
    assert {"operator.Dockerfile", "trainer.Dockerfile"} <= {path.name for path in DOCKERFILES}


def test_a_good_dockerfile_has_no_problem() -> None:
    assert list(problems(GOOD)) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("USER 65532:0\n", "", "no USER"),
        ("USER 65532:0", "USER root", "no USER"),
        ("USER 65532:0", "USER 0:0", "no USER"),
        ("USER 65532:0", "USER m2r", "no USER"),
        ("USER 65532:0", "USER 65532:0\nFROM ${BASE}", "no USER"),
        (":3.11.13-slim-bookworm", ":latest", "BASE: its default has no tag"),
        (":3.11.13-slim-bookworm", "", "BASE: its default has no tag"),
        ("FROM ${BASE} AS last", "FROM python:3.11", "take the base as a build argument"),
        ('["m2r"]', "m2r", "write it as a JSON list"),
        ('["m2r"]', '["m2r", 1]', "write it as a JSON list"),
        ('ENTRYPOINT ["m2r"]\n', "", "there is no ENTRYPOINT"),
        ("COPY requirements", "ADD https://x/y.tar /y\nCOPY requirements", "ADD: use COPY"),
        ("COPY requirements/run.lock", "COPY .", "copies all of the context"),
        ("COPY requirements/run.lock", "COPY --chmod=0755 ./", "copies all of the context"),
        ("--require-hashes ", "", "installs without hashes"),
        ("RUN pip", "RUN pip install x && pip", "installs without hashes"),
        ("RUN pip", "RUN uv pip sync /l && pip", "installs without hashes"),
        ("RUN pip", "RUN curl -fsSL https://x/y.sh | sh && pip", "runs what it downloads"),
        ("RUN pip", "RUN wget -O- https://x/y | /bin/bash && pip", "runs what it downloads"),
        ("--no-install-recommends ", "", "without --no-install-recommends"),
        (" && \\\n    rm -rf /var/lib/apt/lists/*", "", "leaves apt's lists"),
        ("USER", "ARG HF_TOKEN\nUSER", "a secret stays in the image"),
        ("USER", "ENV AWS_SECRET_ACCESS_KEY=x\nUSER", "a secret stays in the image"),
    ],
)
def test_a_rule_that_is_broken_is_named(old: str, new: str, problem: str) -> None:
    broken = GOOD.replace(old, new)
    assert broken != GOOD
    assert any(problem in line for line in problems(broken)), list(problems(broken))


def test_a_continued_instruction_is_one_with_the_line_it_begins_in() -> None:
    found = [(one.line, one.keyword) for one in parse(GOOD)]
    assert found[2:5] == [(3, "COPY"), (4, "RUN"), (6, "RUN")]


# What goes in -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_what_a_dockerfile_copies_is_let_in_by_its_ignore_file(name: str) -> None:
    recipe = recipes.RECIPES[name]
    seen = {str(path) for path in recipes.context_files(ROOT / recipe.dockerfile)}
    for one in parse((ROOT / recipe.dockerfile).read_text()):
        words = [word for word in one.rest.split() if not word.startswith("--")]
        if one.keyword != "COPY" or "--from=" in one.rest:
            continue
        for source in (word.replace("${LOCK}", "trainer-cpu") for word in words[:-1]):
            assert any(path == source or path.startswith(f"{source}/") for path in seen), source


def test_an_image_sees_sources_and_locks_and_nothing_else() -> None:
    seen = {str(path) for path in recipes.context_files(ROOT / "images/operator.Dockerfile")}
    assert {"m2r_train/cli/entry.py", "operator/m2r_operator/__init__.py", "pyproject.toml"} <= seen
    assert {path.partition("/")[0] for path in seen if "/" in path} == {
        "m2r_train", "operator", "requirements",
    }  # fmt: skip
    assert not any("__pycache__" in path or path.endswith(".pyc") for path in seen)


@pytest.mark.parametrize(
    ("name", "lock"), [("operator", "operator"), ("trainer-cpu", "trainer-cpu")]
)
def test_the_lock_decides_which_layers_are_kept(name: str, lock: str) -> None:
    recipe = recipes.RECIPES[name]
    assert recipe.locks == (lock,)
    assert Path(f"requirements/{lock}.lock") in recipes.context_files(ROOT / recipe.dockerfile)


def test_names_are_what_the_kubelet_makes_of_short_ones() -> None:
    names = {name: recipe.reference("1.2.3") for name, recipe in recipes.RECIPES.items()}
    assert names["operator"] == "docker.io/library/m2r-operator:1.2.3"
    assert names["trainer-cpu"] == "docker.io/library/m2r-train:1.2.3-cpu"


def test_the_digest_sees_names_contents_and_modes_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    first = recipes.digest_of([Path("a")], tmp_path)
    assert recipes.digest_of([Path("a")], tmp_path, "more") != first
    (tmp_path / "a").chmod(0o755)
    assert recipes.digest_of([Path("a")], tmp_path) != first
    (tmp_path / "a").chmod(0o600)
    assert recipes.digest_of([Path("a")], tmp_path) == first
    (tmp_path / "a").write_text("y")
    assert recipes.digest_of([Path("a")], tmp_path) != first
    (tmp_path / "b").write_text("x")
    assert recipes.digest_of([Path("b")], tmp_path) != first


def test_a_context_has_the_same_modes_whatever_the_umask(tmp_path: Path) -> None:
    (tmp_path / "in" / "d").mkdir(parents=True, mode=0o700)
    for name, mode in (("d/run", 0o700), ("d/text", 0o600)):
        (tmp_path / "in" / name).write_text(name)
        (tmp_path / "in" / name).chmod(mode)
    recipes.copy_context([Path("d/run"), Path("d/text")], tmp_path / "in", tmp_path / "out")
    modes = {p.name: oct(p.stat().st_mode & 0o777) for p in (tmp_path / "out").rglob("*")}
    assert modes == {"d": "0o755", "run": "0o755", "text": "0o644"}


# This machine -------------------------------------------------------------------------------------


def test_the_mirror_is_the_one_of_apts_own_sources() -> None:
    release = base.release_from(DEBIAN, "bookworm", "amd64")
    assert (release.mirror, release.components) == ("http://mirror.example/debian/", ("main",))
    assert "vendor" not in release.sources
    assert "deb http://mirror.example/debian-security/ bookworm-security main\n" in release.sources


def test_a_vendor_with_the_code_name_is_not_taken_for_the_distribution() -> None:
    vendor = "bookworm main https://vendor.example/apt/\n"
    release = base.release_from(vendor + DEBIAN, "bookworm", "amd64")
    assert release.mirror == "http://mirror.example/debian/"
    assert "vendor" not in release.sources


def test_ubuntu_needs_universe() -> None:
    listing = "noble main http://u/\nnoble universe http://u/\nnoble-updates main http://u/\n"
    assert base.release_from(listing, "noble", "arm64").components == ("main", "universe")


def test_a_machine_without_a_mirror_is_told_what_to_do() -> None:
    with pytest.raises(machine.ImageError, match="--base IMAGE"):
        base.release_from("noble main http://u/\n", "bookworm", "amd64")


def test_without_root_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(machine.ImageError, match="needs root"):
        machine.require_tools()


def test_a_missing_tool_is_installed_by_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda tool: None if tool == "buildah" else f"/bin/{tool}")
    monkeypatch.setattr(machine, "run", lambda command, env=None: commands.append(command))
    machine.require_tools()
    assert [command[1] for command in commands] == ["update", "install"]
    assert commands[1][-1] == "buildah"


def test_nothing_is_installed_where_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda tool: f"/bin/{tool}")
    monkeypatch.setattr(machine, "run", lambda *_: pytest.fail("ran a tool"))
    machine.require_tools()


def test_the_index_of_pip_is_the_index_of_uv() -> None:
    settings = {"PIP_INDEX_URL": "https://u:p@mirror.example/simple"}
    assert machine.pip_settings(settings) == (
        "[global]\nindex-url = https://u:p@mirror.example/simple\n"
    )
    assert 'url = "https://m/simple"' in machine.index_settings(
        {"UV_DEFAULT_INDEX": "https://m/simple"}
    )
    assert (machine.pip_settings({}), machine.index_settings({})) == ("", "")


def test_no_line_shows_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    machine.say("base from https://user:hidden@mirror.example/debian")
    assert capsys.readouterr().err == "images: base from https://mirror.example/debian\n"


def test_a_tool_that_fails_shows_its_last_words_without_passwords() -> None:
    script = "import sys; sys.exit('cannot fetch https://user:hidden@mirror.example')"
    with pytest.raises(machine.ImageError, match=r"failed \(1\):\ncannot fetch") as caught:
        machine.run([sys.executable, "-c", script])
    assert "hidden" not in str(caught.value)


# The base -----------------------------------------------------------------------------------------


def test_a_base_is_one_layer_whose_digests_are_true(tmp_path: Path) -> None:
    folder, target = tmp_path / "root", tmp_path / "base.tar"
    (folder / "usr" / "bin").mkdir(parents=True)
    (folder / "usr" / "bin" / "x").write_text("x")
    (folder / "dev").mkdir()
    (folder / "dev" / "null").touch()
    base.write_archive(folder, target, "localhost/b:1", "amd64")
    with tarfile.open(target) as content:
        files = {name: content.extractfile(name) for name in content.getnames()}
        texts = {name: handle.read() for name, handle in files.items() if handle}
    manifest = json.loads(texts["manifest.json"])[0]
    assert manifest["RepoTags"] == ["localhost/b:1"]
    digest = hashlib.sha256(texts[manifest["Config"]]).hexdigest()
    assert manifest["Config"] == f"blobs/sha256/{digest}"
    layer = texts[manifest["Layers"][0]]
    config = json.loads(texts[manifest["Config"]])
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as content:
        assert {"./usr/bin/x", "./dev"} <= set(content.getnames())
        assert "./dev/null" not in content.getnames()


def test_an_archive_has_each_layer_of_a_layout_once_under_the_full_name(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    (layout / "blobs" / "sha256").mkdir(parents=True)

    def put(content: bytes) -> dict[str, str]:
        digest = hashlib.sha256(content).hexdigest()
        (layout / "blobs" / "sha256" / digest).write_bytes(content)
        return {"digest": f"sha256:{digest}"}

    config = put(b'{"config": {"User": "1:0"}}')
    layers = [put(b"first"), put(b"second"), put(b"first")]
    old = put(b"an older image")
    manifest = put(json.dumps({"config": config, "layers": layers}).encode())
    tags = [{**old, "annotations": {archive.REF_NAME: "1"}}]
    tags += [{**manifest, "annotations": {archive.REF_NAME: "2"}}]
    (layout / "index.json").write_text(json.dumps({"manifests": tags}))
    archive.write_docker_archive(layout, "docker.io/library/x:2", tmp_path / "x.tar")
    entry, document = archive.documents(tmp_path / "x.tar")
    assert (entry["RepoTags"], document) == (["docker.io/library/x:2"], {"config": {"User": "1:0"}})
    with tarfile.open(tmp_path / "x.tar") as content:
        assert len(content.getnames()) == len(set(content.getnames())) == 4
        handles = [content.extractfile(name) for name in entry["Layers"]]
        assert [handle.read() for handle in handles if handle] == [b"first", b"second", b"first"]


def test_a_base_carries_neither_the_mirror_nor_this_machines_names(tmp_path: Path) -> None:
    for name in ("etc/apt", "var/log", "usr/share/doc/x", "var/lib/apt/lists/partial"):
        (tmp_path / name).mkdir(parents=True)
    for name in (
        "etc/apt/sources.list",
        "var/log/bootstrap.log",
        "etc/hostname",
        "etc/resolv.conf",
    ):
        (tmp_path / name).write_text("https://user:hidden@mirror.example")
    base.clean(tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and "mirror" in p.read_text()]
    assert (tmp_path / "var" / "log").is_dir()
    assert not list((tmp_path / "usr" / "share" / "doc").iterdir())


# From recipe to archive ---------------------------------------------------------------------------


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A tree of one image, a cache of its own, and a list of the builds that really happen."""
    tree, names = tmp_path / "tree", []
    (tree / "images").mkdir(parents=True)
    (tree / "pyproject.toml").write_text('[project]\nversion = "1"\n')
    (tree / "images" / "a.Dockerfile").write_text("FROM x\n")
    (tree / "images" / "a.Dockerfile.dockerignore").write_text("*\n!source\n")
    (tree / "source").write_text("one")
    monkeypatch.setenv("M2R_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(builder, "RECIPES", {"a": recipes.Recipe("m2r-a", "images/a.Dockerfile")})
    monkeypatch.setattr(builder, "require_tools", lambda: None)

    def build(buildah: object, dockerfile: Path, context: Path, *_: object, **how: object) -> str:
        time.sleep(0.1)
        names.append((context / "source").read_text())
        return f"sha256:{len(names)}"

    def save(buildah: object, reference: str, archive: Path) -> None:
        archive.write_text(f"{reference} {names[-1]}")
        if names[-1] == "torn":
            raise machine.ImageError("no space left")

    monkeypatch.setattr(
        builder.Buildah, "__init__", lambda self, storage: setattr(self, "storage", storage)
    )
    monkeypatch.setattr(builder.Buildah, "clean", lambda self: None)
    monkeypatch.setattr(builder.Buildah, "build", build)
    monkeypatch.setattr(builder.Buildah, "save", save)
    return names


def build_a(tmp_path: Path) -> builder.Image:
    """The fixture's image, on a base that nobody pulls."""
    return builder.build("a", base="example.test/base:1", root=tmp_path / "tree")


def test_the_same_inputs_are_built_once(made: list[str], tmp_path: Path) -> None:
    first, second = build_a(tmp_path), build_a(tmp_path)
    assert first == second
    assert made == ["one"]
    assert first.archive.read_text() == "docker.io/library/m2r-a:1 one"
    assert (first.short, first.digest) == ("m2r-a:1", "sha256:1")


@pytest.mark.parametrize("name", ["source", "images/a.Dockerfile", "pyproject.toml"])
def test_a_changed_input_is_built_again(made: list[str], tmp_path: Path, name: str) -> None:
    first = build_a(tmp_path)
    path = tmp_path / "tree" / name
    path.write_text(path.read_text().replace('"1"', '"2"') + "\n")
    second = build_a(tmp_path)
    assert len(made) == 2
    assert first.archive != second.archive


def test_two_callers_build_once(made: list[str], tmp_path: Path) -> None:
    threads = [threading.Thread(target=build_a, args=(tmp_path,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["one"]


def test_a_build_that_failed_half_way_leaves_no_archive(made: list[str], tmp_path: Path) -> None:
    (tmp_path / "tree" / "source").write_text("torn")
    with pytest.raises(machine.ImageError, match="no space left"):
        build_a(tmp_path)
    left = [path for path in (tmp_path / "cache").rglob("*") if path.suffix in (".tar", ".json")]
    assert left == []


def test_an_archive_without_its_facts_is_built_again(made: list[str], tmp_path: Path) -> None:
    build_a(tmp_path).archive.with_suffix(".json").unlink()
    assert build_a(tmp_path).archive.with_suffix(".json").exists()
    assert made == ["one", "one"]


def test_archives_that_were_not_used_for_long_go(made: list[str], tmp_path: Path) -> None:
    images = []
    for text in ("one", "two", "three"):
        (tmp_path / "tree" / "source").write_text(text)
        images.append(build_a(tmp_path))
        time.sleep(0.02)
    assert [image.archive.exists() for image in images] == [False, True, True]


def test_layers_stay_when_sources_change_and_go_with_the_libraries(
    tmp_path: Path, made: list[str]
) -> None:
    first = builder.storage_for("a", "lock1")
    first.mkdir(parents=True)
    assert builder.storage_for("a", "lock1").exists()
    other = builder.storage_for("b", "lock1")
    other.mkdir(parents=True)
    builder.storage_for("a", "lock2")
    assert (first.exists(), other.exists()) == (False, True)


def test_the_command_names_a_users_mistake_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "images"), "build", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "invalid choice: 'nothing'" in done.stderr


# Stand-ins for CUDA -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbol", "owner"),
    [
        ("ncclAllReduce", "libnccl.so.2"),
        ("cusparseLtInit", "libcusparseLt.so.0"),
        ("cuFileRead", "libcufile.so.0"),
        ("curandCreateGenerator", None),
        ("_ZN3c1010TensorImplE", None),
    ],
)
def test_a_symbol_without_version_belongs_to_the_needed_library_of_its_prefix(
    symbol: str, owner: str | None
) -> None:
    path = ROOT / "images" / "cuda_stubs.py"
    spec = importlib.util.spec_from_file_location("cuda_stubs", path)
    assert spec is not None
    assert spec.loader is not None
    cuda_stubs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cuda_stubs)
    needed = ["libnccl.so.2", "libcusparseLt.so.0", "libcufile.so.0", "libcusparse.so.12"]
    assert cuda_stubs.unversioned_owner(symbol, needed) == owner
