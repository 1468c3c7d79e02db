"""The benchmark for a GPU runs whole without one, and says what that does not measure."""

from __future__ import annotations

import pytest

from bench.bench_gpu import Step, arguments, main, model_size
from m2r_train.core.sizing import QWEN25_VL_7B

pytestmark = pytest.mark.global_rng("transformers makes parameters with the global generator")


@pytest.mark.parametrize("more", [["--lora", "0"], ["--lora", "2"]], ids=["full", "adapters"])
def test_the_whole_script_runs_on_a_cpu(
    more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--device", "cpu", "--tiny", "--steps", "1", *more]) == 0
    page = capsys.readouterr().out
    for part in ("sync", "generate", "train", "step"):
        assert f"| {part} |" in page
    assert "Not measured here: anything of a GPU" in page
    assert "MFU" not in page
    assert "bare" not in page


def test_without_a_gpu_it_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--tiny"]) == 78
    assert "this process finds 0 GPUs" in capsys.readouterr().err


def test_usual_settings_are_those_of_the_real_model() -> None:
    args = arguments(["--model", "7B", "--group", "4"])
    assert model_size(args) is QWEN25_VL_7B
    assert (args.engine, args.group, args.prompts) == ("vllm", 4, 32)


def test_the_peers_time_is_no_part_of_a_step() -> None:
    assert Step({"sync": 1.0, "generate": 2.0, "train": 3.0, "bare": 9.0}).total == 6.0
