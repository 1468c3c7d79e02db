"""``python tools/experiments plan|run|page``: the experiments of examples/experiments."""

import sys
from pathlib import Path

# Run as a folder, not as a module: imports start from `tools`.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from experiments.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
