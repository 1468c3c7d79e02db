"""The one error of this package."""


class ClusterError(Exception):
    """One line for people: what is wrong, where, and what to do."""
