"""The command ``m2r`` (design section 8). torch is imported only by commands that compute."""

from m2r_train.cli.base import app, cache_dir
from m2r_train.cli.entry import main

__all__ = ["app", "cache_dir", "main"]
