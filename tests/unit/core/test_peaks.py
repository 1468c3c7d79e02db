"""Peaks by the names that CUDA gives devices; what is not known is told as not known."""

from __future__ import annotations

import pytest

from m2r_train.api.errors import ConfigError
from m2r_train.core.peaks import VARIABLE, peak_flops


@pytest.mark.parametrize(
    ("device", "narrow", "single"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4, 66.9),
        ("NVIDIA H100 PCIe", 756.0, 51.2),
        ("NVIDIA H100 NVL", 835.0, 60.0),
        ("NVIDIA H200", 989.4, 66.9),
        ("NVIDIA A100-SXM4-80GB", 312.0, 19.5),
        ("NVIDIA A100 80GB PCIe", 312.0, 19.5),
        ("NVIDIA A10", 125.0, 31.2),
        ("NVIDIA A10G", 70.0, 35.0),
        ("NVIDIA L4", 121.0, 30.3),
        ("NVIDIA L40S", 362.0, 91.6),
        ("NVIDIA GB200", 2500.0, 80.0),
        ("NVIDIA B200", 2250.0, 75.0),
    ],
)
def test_a_device_is_known_by_the_words_of_its_name(
    device: str, narrow: float, single: float
) -> None:
    assert peak_flops(device, "bfloat16") == pytest.approx(narrow * 1e12)
    assert peak_flops(device, "float16") == peak_flops(device, "bfloat16")
    assert peak_flops(device, "float32") == pytest.approx(single * 1e12)
    assert peak_flops(device, "float64") is None


@pytest.mark.parametrize("device", ["cpu", "", "NVIDIA H1000", "NVIDIA A100-SXM4-40GB MIG 3g.20gb"])
def test_what_is_not_in_the_table_is_not_guessed(device: str) -> None:
    assert peak_flops(device, "bfloat16") is None


def test_the_variable_has_the_last_word() -> None:
    assert peak_flops("cpu", "float32", {VARIABLE: " 0.05 "}) == pytest.approx(0.05e12)
    assert peak_flops("NVIDIA H100", "bfloat16", {VARIABLE: "700"}) == 700e12
    assert peak_flops("cpu", "float32", {VARIABLE: ""}) is None


def test_a_manifest_goes_before_the_table_and_the_variable_before_the_manifest() -> None:
    assert peak_flops("NVIDIA H100", "bfloat16", told=495.0) == 495e12
    assert peak_flops("cpu", "float32", {VARIABLE: ""}, told=0.1) == pytest.approx(0.1e12)
    assert peak_flops("cpu", "float32", {VARIABLE: "0.2"}, told=0.1) == pytest.approx(0.2e12)


@pytest.mark.parametrize("given", ["much", "0", "-3", "nan", "inf"])
def test_a_value_that_is_no_number_is_one_line(given: str) -> None:
    with pytest.raises(ConfigError, match=f"^{VARIABLE}: '{given}' is no positive number; set"):
        peak_flops("cpu", "float32", {VARIABLE: given})
