"""Runs in other people's trackers, through their own clients; none is needed to train."""

from m2r_train.trackers.base import MissingClientError, Point, Tracked, Tracker
from m2r_train.trackers.opening import KINDS, open_tracker

__all__ = ["KINDS", "MissingClientError", "Point", "Tracked", "Tracker", "open_tracker"]
