"""One self-contained page about one or several runs."""

from m2r_train.report.page import build_report
from m2r_train.report.views import Comparison, RunView

__all__ = ["Comparison", "RunView", "build_report"]
