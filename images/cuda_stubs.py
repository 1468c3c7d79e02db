"""Stand-ins for CUDA libraries, so that torch's Linux wheel runs where no GPU will ever be.

``python cuda_stubs.py SITE_PACKAGES``: PyPI's wheel of torch for Linux is linked with a dozen
libraries of CUDA, 2.7 GB of which nothing is called without a device; the loader asks only that
they are there and have the names in them. Each one that is missing is made here with exactly the
symbols that torch wants from it. Calling one ends the process with a line that says why.

Only the real ``nvidia-cuda-runtime`` and ``nvidia-cuda-cupti`` are kept: torch does call them, to
be told that there is no device. Needs ``gcc`` and binutils; runs in a build stage.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

# Libraries whose symbols carry no version (which would name the library) begin like this.
PREFIXES = {
    "nccl": "libnccl.so",
    "cuFile": "libcufile.so",
    "curand": "libcurand.so",
    "cusparseLt": "libcusparseLt.so",
}
# Libraries that are no business of this file. The driver must stay missing: without it the real
# runtime library says that there is no device.
SYSTEM = ("ld-linux", "libc.", "libdl.", "libgcc_s.", "libm.", "libpthread.", "librt.")
SYSTEM += ("libstdc++.", "libcuda.")
NEEDED = re.compile(r"\(NEEDED\)\s+Shared library: \[(\S+)\]")
UNDEFINED = re.compile(r"^\s*[Uw] (\w+)(?:@(\S+))?$", re.MULTILINE)
VERSION_FILE = re.compile(r"File: (\S+)\s+Cnt: \d+\n((?:.*Name: .*\n)+)")
VERSION_NAME = re.compile(r"Name: (\S+)")

HEAD = """\
#include <stdio.h>
#include <stdlib.h>
static void refuse(const char *name) {
  fprintf(stderr, "%s: this image is for CPUs and has no CUDA: use the image m2r-train\\n", name);
  abort();
}
"""


def output(*command: str | Path) -> str:
    """Standard output of a tool; raises ``CalledProcessError`` with its own words on stderr."""
    return subprocess.run(
        [str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def wanted(libraries: list[Path]) -> dict[str, set[tuple[str, str]]]:
    """Library name (soname) -> the (symbol, version or "") that ``libraries`` want of it."""
    found: dict[str, set[tuple[str, str]]] = {}
    for library in libraries:
        needed = NEEDED.findall(output("readelf", "--dynamic", "--wide", library))
        found |= {name: found.get(name, set()) for name in needed}
        owner = {
            version: name
            for name, versions in VERSION_FILE.findall(
                output("readelf", "--version-info", "--wide", library)
            )
            for version in VERSION_NAME.findall(versions)
        }
        listing = output("nm", "--dynamic", "--undefined-only", "--with-symbol-versions", library)
        for symbol, version in UNDEFINED.findall(listing):
            name = owner.get(version) if version else unversioned_owner(symbol, needed)
            if name is not None:
                found[name].add((symbol, version))
    return found


def unversioned_owner(symbol: str, needed: list[str]) -> str | None:
    """Which of ``needed`` has ``symbol``, by the customary prefix; None for torch's own ones."""
    stems = [stem for prefix, stem in PREFIXES.items() if symbol.startswith(prefix)]
    return next((name for name in needed for stem in stems if name.startswith(stem + ".")), None)


def make(name: str, symbols: set[tuple[str, str]], folder: Path) -> None:
    """Compiles a library ``name`` with ``symbols`` into ``folder``; the same bytes every time."""
    source = HEAD + "".join(
        f'void {symbol}(void) {{ refuse("{symbol}"); }}\n' for symbol, _ in sorted(symbols)
    )
    versions: dict[str, list[str]] = {}
    for symbol, version in sorted(symbols):
        versions.setdefault(version, []).append(symbol)
    script = "".join(
        f"{version} {{ global: {'; '.join(of)}; local: *; }};\n"
        for version, of in sorted(versions.items())
        if version
    )
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "stub.c").write_text(source)
        (Path(work) / "stub.map").write_text(script)
        options = ["-shared", "-fPIC", "-O1", "-s", "-fno-builtin", f"-Wl,-soname,{name}"]
        options += [f"-Wl,--version-script={work}/stub.map"] if script else []
        output("gcc", *options, "-o", folder / name, f"{work}/stub.c")


def main(site_packages: Path) -> None:
    """Makes every missing library that torch's own ones are linked with; see the docstring."""
    folder = site_packages / "torch" / "lib"
    libraries = sorted(folder.glob("*.so"))
    present = {path.name for path in folder.iterdir()}
    present |= {path.name for path in (site_packages / "nvidia").glob("**/lib/*.so*")}
    made = {
        name: symbols
        for name, symbols in wanted(libraries).items()
        if name not in present and not system_has(name)
    }
    for name, symbols in sorted(made.items()):
        make(name, symbols, folder)
        sys.stdout.write(f"{name}: {len(symbols)} symbols\n")
    if not made:
        sys.exit(f"cuda_stubs: nothing is missing in {folder}: is this the CPU image's lock?")


def system_has(name: str) -> bool:
    """Whether ``name`` comes from elsewhere: the C and C++ libraries, or a GPU's driver."""
    return name.startswith(SYSTEM)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
