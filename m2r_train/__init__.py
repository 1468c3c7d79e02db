"""M2R's trainer: the four stages of the M2-Reasoning recipe (arXiv 2507.08306).

This module imports nothing, so that ``m2r_train.api`` stays light.
"""

__version__ = "0.1.0"
