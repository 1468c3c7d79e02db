"""What NVIDIA's dcgm-exporter would tell of the GPUs of pods, on a machine that has none.

Names, labels and units are the exporter's own; a GPU that no pod holds has empty ``namespace``,
``pod`` and ``container``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from s3server import free_port

ACTIVE: Final = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
MEMORY: Final = "DCGM_FI_DEV_FB_USED"
LABELS: Final = (
    "gpu", "UUID", "pci_bus_id", "device", "modelName", "Hostname", "container", "namespace", "pod",
)  # fmt: skip
TARGET: Final = {"instance": "dcgm", "job": "dcgm-exporter"}


@dataclass
class Gpu:
    """A GPU and the pod that holds it: share of the time that it works, MiB in use."""

    namespace: str = ""
    pod: str = ""
    active: float = 0.0
    mebibytes: float = 0.0


class Exporter(Collector):
    """The series of one node's GPUs, as they are when somebody asks."""

    def __init__(self, gpus: Sequence[Gpu]) -> None:
        self.gpus = gpus

    def collect(self) -> Iterator[GaugeMetricFamily]:
        active = GaugeMetricFamily(
            ACTIVE, "Ratio of time the graphics engine is active.", labels=LABELS
        )
        memory = GaugeMetricFamily(MEMORY, "Framebuffer memory used (in MiB).", labels=LABELS)
        for number, gpu in enumerate(self.gpus):
            labels = [
                str(number), f"GPU-{number:08x}-0000-0000-0000-000000000000",
                f"00000000:{number:02X}:00.0", f"nvidia{number}", "NVIDIA H100 80GB HBM3", "node-1",
                "trainer" if gpu.pod else "", gpu.namespace, gpu.pod,
            ]  # fmt: skip
            active.add_metric(labels, gpu.active)
            memory.add_metric(labels, gpu.mebibytes)
        yield active
        yield memory


@contextmanager
def served(gpus: Sequence[Gpu]) -> Iterator[int]:
    """The port at which the exporter answers."""
    registry, port = CollectorRegistry(), free_port()
    registry.register(Exporter(gpus))
    server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    assert isinstance(thread, threading.Thread)
    try:
        yield port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)
