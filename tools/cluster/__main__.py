"""``python tools/cluster up|down|status|build``: the one-node cluster on the command line."""

import sys
from pathlib import Path

# Run as a folder, not as a module: imports start from `tools`.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from cluster.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
