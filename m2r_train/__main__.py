"""``python -m m2r_train`` is ``m2r``."""

from m2r_train.cli import main

main()
