"""What devices can compute at best, by name and data type: the denominator of utilisation.

Dense figures of the vendors' data sheets, in TFLOPS: products of matrices, summed in float32, no
sparsity (which data sheets print first, and doubles them). Float32 is that of the plain units:
TF32 is never turned on here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from m2r_train.api.errors import ConfigError

VARIABLE: Final = "M2R_PEAK_TFLOPS"
TERA: Final = 1e12

# (words that a device's name has, TFLOPS in bfloat16 or float16, in float32); the first that fits
_TABLE: Final[tuple[tuple[tuple[str, ...], float, float], ...]] = (
    (("GB200",), 2500.0, 80.0),
    (("B200",), 2250.0, 75.0),
    (("H200", "NVL"), 835.0, 60.0),
    (("H200",), 989.4, 66.9),
    (("GH200",), 989.4, 66.9),
    (("H100", "NVL"), 835.0, 60.0),
    (("H100", "PCIe"), 756.0, 51.2),
    (("H100",), 989.4, 66.9),
    (("A100",), 312.0, 19.5),
    (("A40",), 149.7, 37.4),
    (("A30",), 165.0, 10.3),
    (("A10G",), 70.0, 35.0),
    (("A10",), 125.0, 31.2),
    (("L40S",), 362.0, 91.6),
    (("L40",), 181.0, 90.5),
    (("L4",), 121.0, 30.3),
    (("MI325X",), 1307.4, 163.4),
    (("MI300X",), 1307.4, 163.4),
)
_NARROW: Final = ("bfloat16", "float16")


def peak_flops(
    device: str,
    dtype: str,
    environment: Mapping[str, str] | None = None,
    *,
    told: float | None = None,
) -> float | None:
    """Operations a second of one device at best, None for one that is not known.

    ``device`` is its name as CUDA tells it, ``dtype`` as torch spells it. Who knows better says so
    in TFLOPS of one device: a manifest (``told``), before it `VARIABLE` in the ``environment``. A
    slice of a device (MIG) is not known: its share of the figure is not in its name. Raises
    ``ConfigError`` for a value of `VARIABLE` that is no positive number.
    """
    given = (environment or {}).get(VARIABLE, "").strip()
    if given:
        return _number(given) * TERA
    if told is not None:
        return told * TERA
    words = set(re.split(r"[\s\-_/]+", device))
    if "MIG" in words:
        return None
    for names, narrow, single in _TABLE:
        if words.issuperset(names):
            known = {**dict.fromkeys(_NARROW, narrow), "float32": single}.get(dtype)
            return None if known is None else known * TERA
    return None


def _number(given: str) -> float:
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(
            f"{VARIABLE}: {given!r} is no positive number; set the TFLOPS of one device, such as "
            "989.4, or leave it out"
        )
    return value
