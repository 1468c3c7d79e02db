"""M2R's Kubernetes operator; it knows ``m2r_train.api`` and nothing else of the trainer."""

__version__ = "0.1.0"
