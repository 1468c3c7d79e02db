"""``python tools/images build operator|trainer-cpu|standin ... [--base IMAGE] [--out DIR]``."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from pathlib import Path

if __package__ in (None, ""):  # run by path: make this folder importable as the package it is
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from setup_env import SetupError

from images import RECIPES, ImageError, build


def main(arguments: list[str]) -> int:
    """The command line: builds each image, prints name, digest and archive."""
    parser = argparse.ArgumentParser(prog="images", description="Images without a Docker engine.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("build", help="build images, or find them in the cache")
    command.add_argument("names", nargs="+", choices=sorted(RECIPES), metavar="NAME",
                         help=", ".join(sorted(RECIPES)))  # fmt: skip
    command.add_argument("--base", help="base image to pull, instead of one from debootstrap")
    command.add_argument("--out", type=Path, help="copy the archives here, as NAME.tar")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that buildah ends as well
    try:
        for name in options.names:
            image = build(name, base=options.base)
            archive = image.archive
            if options.out is not None:
                options.out.mkdir(parents=True, exist_ok=True)
                archive = Path(shutil.copyfile(archive, options.out / f"{name}.tar"))
            print(f"{image.reference} {image.digest} {archive}", flush=True)
    except (ImageError, SetupError, OSError) as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
