"""Trained tokens a second of SFT, ours and TRL's SFTTrainer, in one interleaved run.

    python bench/bench_sft.py [--threads 1] [--questions 1 4] [--blocks 5] [--micro 0]

Both train the same model from the same weights on the same batches in the same order, with the same
optimiser and threads: pictures of several sizes, questions about them, and chains whose lengths
are log-normal, as real chains are. A step of TRL's is followed by one of ours, in one process, so
that a disturbance of the machine hits both. Ours is the stage's own ``_accumulate`` and optimiser
step. TRL refuses packing and padding-free batches for vision data, so it pads; its clock stops
while its collator works, ours does not.

Prints Markdown, and fails when the ratio of the medians is below the goal or when the two did not
do the same work: other numbers of trained tokens, or other losses.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m2r_train.core.records import Sample
    from m2r_train.model.policy import Policy

GOAL = 2.0  # times TRL's trained tokens per second
LOSS_TOLERANCE = 1e-3  # between the two sides' losses of one step, relative
LEARNING_RATE = 1e-6  # so small that both sides' losses stay comparable
LENGTH_MEDIAN, LENGTH_SIGMA, LENGTH_MOST = 160, 0.8, 2000  # tokens of a chain, log-normal
PICTURES = ((64, 64), (96, 64), (128, 96), (64, 128))  # pixels; 8 x 8 pixels are a token
SHAPES = {
    "small": {"hidden": 256, "layers": 6, "heads": 8, "kv_heads": 4, "intermediate": 1024},
    "larger": {"hidden": 512, "layers": 12, "heads": 16, "kv_heads": 8, "intermediate": 2048},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row of the table."""

    threads: int
    questions: int  # about one picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step of one side took and made."""

    seconds: float
    trained: int  # tokens in the loss
    loss: float
    padding: float  # share of the computed cells that hold no token

    @property
    def rate(self) -> float:
        """Trained tokens a second."""
        return self.trained / self.seconds


# the model and the samples


def model_folder(shape: str, folder: Path) -> Policy:
    """A model with random weights, saved, so that both sides load the same."""
    from m2r_train.model.policy import Policy
    from m2r_train.model.tiny import TinyShape, tiny_model
    from m2r_train.sim import VOCABULARY

    sizes: dict[str, Any] = {**SHAPES[shape], "initializer_range": 0.02, "rope_theta": 1e4}
    head = sizes["hidden"] // sizes["heads"] // 2
    sizes["mrope_section"] = (head // 4, (head - head // 4) // 2, (head - head // 4) // 2)
    module, processor = tiny_model(VOCABULARY, 0, TinyShape(**sizes))
    processor.image_processor.size["longest_edge"] = 256 * 64  # 256 tokens
    policy = Policy(module, processor)
    policy.save(folder)
    return policy


def samples_of(count: int, questions: int) -> list[Sample]:
    """Simulated questions with pictures of several sizes and chains of words, seeded."""
    import numpy as np

    from m2r_train.core.rng import derive_seed
    from m2r_train.sim import VOCABULARY, generate

    rng = np.random.default_rng(derive_seed(0, "bench-sft", questions))
    words = [w for w in VOCABULARY if w.isalpha()]
    samples = []
    for i in range(count):
        picture = i // questions
        if i % questions == 0:
            shown = generate("ObjectCount", 0, picture, image_size=64)
            images = tuple(_resized(data, PICTURES[picture % 4]) for data in shown.images)
        asked = generate("ObjectCount", 1, i, image_size=64)
        length = min(LENGTH_MOST, max(8, round(rng.lognormal(np.log(LENGTH_MEDIAN), LENGTH_SIGMA))))
        said = " ".join(rng.choice(words, length))
        chain = f"<think>{said}</think><answer>\\boxed{{{asked.answer}}}</answer>"
        samples.append(asked.with_(id=f"q{i}", images=images, chain=chain))
    return samples


def _resized(data: bytes, size: tuple[int, int]) -> bytes:
    import io

    from m2r_train.data.images import decode

    buffer = io.BytesIO()
    decode(data).resize(size).save(buffer, "PNG")
    return buffer.getvalue()


# the two sides


class Ours:
    """The SFT stage's step, without its checkpoints."""

    def __init__(self, setting: Setting, folder: Path, batches: Sequence[Sequence[Sample]]) -> None:
        from m2r_train.engine.local import AdamWConfig, LocalEngine
        from m2r_train.model.policy import Policy
        from m2r_train.stages.feeding import lessons

        self._threads = setting.threads
        self._policy = Policy.load(folder)
        self._engine = LocalEngine(
            self._policy.module,
            AdamWConfig(beta1=0.9, beta2=0.95, weight_decay=0.0, gradient_clip=1.0),
        )
        self._batches = [lessons(self._policy, batch) for batch in batches]

    def step(self, number: int) -> Step:
        """One optimiser step with the stage's threads and deterministic kernels."""
        import torch

        from m2r_train.stages.models import use_threads
        from m2r_train.stages.sft import _accumulate

        use_threads(self._threads)
        began = time.perf_counter()
        batch = self._batches[number]
        loss, tokens, padding = _accumulate(self._policy, self._engine, batch, lambda: None)
        self._engine.step(LEARNING_RATE)
        seconds = time.perf_counter() - began
        torch.use_deterministic_algorithms(False)
        return Step(seconds=seconds, trained=tokens, loss=loss, padding=padding)


def trl_settings(batch: int, micro: int, steps: int, folder: str) -> dict[str, Any]:
    """Arguments of ``SFTConfig``: one batch is one step, and nothing that costs time for looks."""
    return {
        "output_dir": folder,
        "max_steps": steps,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": batch // micro,
        "max_length": None,
        "completion_only_loss": True,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "adam_beta2": 0.95,
        "max_grad_norm": 1.0,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "train_sampling_strategy": "sequential",
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
    }


def trl_dataset(samples: Sequence[Sample]) -> Any:
    """TRL's columns; it puts the pictures in front of the user's text, as our template has it."""
    from datasets import Dataset

    from m2r_train.data.images import decode
    from m2r_train.model.prompts import messages

    def prompt(sample: Sample) -> list[dict[str, str]]:
        system, user = messages(sample)
        return [system, {"role": "user", "content": user["content"][-1]["text"]}]

    return Dataset.from_dict(
        {
            "prompt": [prompt(s) for s in samples],
            "completion": [[{"role": "assistant", "content": s.chain}] for s in samples],
            "images": [[decode(data) for data in s.images] for s in samples],
        }
    )


def _trl_processor(processor: Any) -> Any:
    """TRL gives an assistant's turn as a list of texts, which the tiny template does not read."""
    plain = "{{ m.content }}<|im_end|>"
    if plain not in processor.chat_template:
        raise ValueError("the tiny preset's chat template has changed: adapt this benchmark")
    template = processor.chat_template.replace(plain, "{{ m.content[0].text }}<|im_end|>")
    processor.chat_template = processor.tokenizer.chat_template = template
    return processor


def interleave(
    setting: Setting, folder: Path, args: argparse.Namespace
) -> tuple[list[Step], list[Step]]:
    """Steps of TRL and of ours in turns, the first pair untimed; (TRL's, ours)."""
    import torch
    from transformers import (
        AutoProcessor,
        PrinterCallback,
        Qwen2_5_VLForConditionalGeneration,
        TrainerCallback,
    )
    from trl import SFTConfig, SFTTrainer

    steps = args.blocks + 1
    samples = samples_of(steps * args.batch, setting.questions)
    batches = [samples[i * args.batch : (i + 1) * args.batch] for i in range(steps)]
    ours = Ours(setting, folder, batches)
    pairs: tuple[list[Step], list[Step]] = ([], [])

    class Watched(SFTTrainer):  # type: ignore[misc]
        """Counts what the loss is taken over, and the cells that the model is given."""

        trained = used = cells = 0

        def compute_loss(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            self.trained += int((inputs["labels"][:, 1:] != -100).sum())
            self.used += int(inputs["attention_mask"].sum())
            self.cells += inputs["attention_mask"].numel()
            return super().compute_loss(model, inputs, *rest, **named)

    class Turns(TrainerCallback):
        """Stops TRL's clock between steps, and lets ours run after each."""

        began = seconds = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            torch.set_num_threads(setting.threads)
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds = time.perf_counter() - self.began

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" not in logs:
                return
            pairs[0].append(
                Step(
                    seconds=self.seconds,
                    trained=trainer.trained,
                    loss=float(logs["loss"]),
                    padding=1 - trainer.used / trainer.cells,
                )
            )
            trainer.trained = trainer.used = trainer.cells = 0
            pairs[1].append(ours.step(len(pairs[1])))
            rates = f"TRL {pairs[0][-1].rate:.0f}/s, M2R {pairs[1][-1].rate:.0f}/s"
            print(f"{setting} step {len(pairs[1]) - 1}: {rates}", file=sys.stderr)

    with tempfile.TemporaryDirectory(prefix="m2r-bench-") as output:
        trainer = Watched(
            model=Qwen2_5_VLForConditionalGeneration.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="sdpa"
            ),
            args=SFTConfig(**trl_settings(args.batch, args.micro or args.batch, steps, output)),
            train_dataset=trl_dataset(samples),
            processing_class=_trl_processor(AutoProcessor.from_pretrained(folder)),
            callbacks=[Turns()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return pairs[0][1:], pairs[1][1:]


# figures


def spread(values: Sequence[float]) -> dict[str, float]:
    """Lowest, median and highest."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def compare(trl: Sequence[Step], ours: Sequence[Step]) -> dict[str, Any]:
    """Rates of both, their ratios and padding. Raises ValueError when the work was not the same."""
    for number, (a, b) in enumerate(zip(trl, ours, strict=True), start=1):
        if a.trained != b.trained:
            raise ValueError(f"step {number}: TRL trained {a.trained} tokens, M2R {b.trained}")
        if abs(a.loss - b.loss) > LOSS_TOLERANCE * abs(a.loss):
            raise ValueError(f"step {number}: TRL's loss is {a.loss:.5f}, M2R's {b.loss:.5f}")
    figures: dict[str, Any] = {
        "trl_per_second": spread([s.rate for s in trl]),
        "m2r_per_second": spread([s.rate for s in ours]),
        "ratio_of_pairs": spread([b.rate / a.rate for a, b in zip(trl, ours, strict=True)]),
        "trl_padding": statistics.fmean(s.padding for s in trl),
        "m2r_padding": statistics.fmean(s.padding for s in ours),
    }
    figures["ratio_of_medians"] = (
        figures["m2r_per_second"]["median"] / figures["trl_per_second"]["median"]
    )
    return figures


HEADER = (
    "| threads | questions a picture | TRL trained tokens/s | M2R trained tokens/s "
    "| ratio of medians | ratio of pairs | padding TRL | padding M2R |"
)


def row(setting: Setting, figures: dict[str, Any]) -> str:
    """A line of the table."""

    def cell(values: dict[str, float], digits: int) -> str:
        return " / ".join(f"{values[k]:.{digits}f}" for k in ("min", "median", "max"))

    cells = [
        str(setting.threads),
        str(setting.questions),
        cell(figures["trl_per_second"], 0),
        cell(figures["m2r_per_second"], 0),
        f"**{figures['ratio_of_medians']:.2f}**",
        cell(figures["ratio_of_pairs"], 2),
        f"{figures['trl_padding']:.1%}",
        f"{figures['m2r_padding']:.1%}",
    ]
    return f"| {' | '.join(cells)} |"


def introduction(args: argparse.Namespace, parameters: int) -> str:
    """What was compared, how, and with which settings."""
    versions = ", ".join(f"{p} {version(p)}" for p in ("trl", "transformers", "torch"))
    micro = args.micro or args.batch
    kept = trl_settings(args.batch, micro, 0, "")
    peer = ", ".join(f"{k} {v}" for k, v in kept.items() if k not in ("output_dir", "max_steps"))
    return "\n".join(
        [
            "# SFT on multimodal samples: M2R against TRL's SFTTrainer",
            "",
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; Python "
            f"{platform.python_version()}, {versions}; float32.",
            f"A Qwen2.5-VL of {parameters / 1e6:.0f} million parameters with random weights, all "
            f"trained. A batch is {args.batch} samples; pictures of {PICTURES} pixels, chains of "
            f"log-normal length (median {LENGTH_MEDIAN} tokens, sigma {LENGTH_SIGMA}). "
            f"{args.blocks} steps each, in turns, after one untimed pair; lowest / median / "
            "highest. Trained tokens are those in the loss. Losses of both sides are compared at "
            "every step.",
            "",
            f"TRL: {peer}, SDPA attention; its clock stops while its collator works.",
            "",
            "M2R: the stage's own functions and deterministic kernels. Padding: of TRL's input "
            "cells, and of the cells that M2R's attention computes (elsewhere it has none).",
            "",
            HEADER,
            "|" + "---|" * (HEADER.count("|") - 1),
        ]
    )


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--questions", type=int, nargs="+", default=[1, 4], help="a picture")
    parser.add_argument("--model", choices=SHAPES, default="small")
    parser.add_argument("--batch", type=int, default=16, help="samples of a step")
    parser.add_argument("--micro", type=int, default=0, help="TRL's micro-batch; 0: the batch")
    parser.add_argument("--blocks", type=int, default=5, help="timed steps of each side")
    return parser.parse_args(argv)


def main() -> None:
    """Measure every setting; exit 1 when the goal is missed."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    args = arguments()
    import transformers

    transformers.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    lowest = float("inf")
    with tempfile.TemporaryDirectory(prefix="m2r-bench-") as place:
        policy = model_folder(args.model, Path(place))
        parameters = sum(p.numel() for p in policy.module.parameters())
        print(introduction(args, parameters), flush=True)
        for threads, questions in product(args.threads, args.questions):
            setting = Setting(threads=threads, questions=questions)
            try:
                figures = compare(*interleave(setting, Path(place), args))
            except ValueError as error:
                sys.exit(f"bench_sft: {error}: the figures mean nothing")
            print(row(setting, figures), flush=True)
            lowest = min(lowest, figures["ratio_of_medians"])
    print(f"\nLowest ratio of medians: {lowest:.2f}; the goal is {GOAL:g}.")
    sys.exit(lowest < GOAL)


if __name__ == "__main__":
    main()
