"""Completions a second of an RLVR step, ours and TRL's GRPOTrainer, in one interleaved run.

    python bench/bench_rlvr.py [--threads 1 2] [--prompts 16 32] [--beta 0 0.04] [--blocks 5]
    python bench/bench_rlvr.py --model larger

Both train the quickstart's model, after a short cold start by our own SFT stage, on the same
prompts in the same order, with the same rewards, group size, sampling and optimiser. ``larger`` is
a model of some 100 million random parameters; as it solves nothing, a hash of each completion is
its reward. A block of TRL's steps is followed by one of ours, in one process, so that a
disturbance of the machine hits both. Ours are the calls of ``m2r_train/stages/rlvr.py``; left out
are journal and checkpoint, which TRL does not write here either. TRL is one
``GRPOTrainer.train()``; its clock stops while its data loader decodes pictures, ours does not.

Prints Markdown (settings, then a table) and fails when a ratio of the medians is below the goal,
when more of our cells hold no token than may, or when the two did not do the same work: other
prompts, or completions of another mean length.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m2r_train.core.records import Sample
    from m2r_train.core.rewards import Reward
    from m2r_train.rollout.base import Completion
    from m2r_train.stages.grpo import Scored

GOALS = {"quickstart": 3.0, "larger": 2.0}  # times TRL's completions per second
MOST_PADDING = 0.05  # of the cells that our prefill and update compute
LENGTH_TOLERANCE = 0.1  # of the mean completion length
GROUP = 8
MAX_TOKENS = 48
LEARNING_RATE = 1e-6  # so small that the model, and so the lengths, stay what they are
CLIP = 0.2
PROMPTS = 512  # in the data set; both sides go through it in order
QUICKSTART = Path(__file__).resolve().parent.parent / "examples" / "quickstart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row of the table."""

    threads: int
    prompts: int
    beta: float


@dataclass(slots=True)
class Block:
    """What a few steps of one side took and made; seconds are of the wall and of all cores."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    completions: int = 0
    completion_tokens: int = 0
    prompt_tokens: int = 0
    reward: float = 0.0  # summed over completions
    cells: int = 0  # that hold a token, in prefill and update (ours)
    padded: float = 0.0  # that hold none

    @property
    def rate(self) -> float:
        """Completions a second."""
        return self.completions / self.seconds


@dataclass(slots=True)
class Clock:
    """Adds the time between ``start`` and ``stop`` to a block."""

    block: Block
    _began: tuple[float, float] = field(default=(0.0, 0.0))

    def start(self) -> None:
        self._began = (time.perf_counter(), time.process_time())

    def stop(self) -> None:
        self.block.seconds += time.perf_counter() - self._began[0]
        self.block.cpu_seconds += time.process_time() - self._began[1]


# what is compared


class Judge:
    """The rewards of both sides: the quickstart's, or by chance where a model solves nothing."""

    def __init__(self, model: str) -> None:
        from m2r_train.core.rewards import RewardConfig

        self._chance = model == "larger"
        self._config = RewardConfig()

    def __call__(self, sample: Sample, text: str) -> Reward:
        """The reward of one completion."""
        from m2r_train.core.rewards import Reward, score

        if self._chance:
            drawn = zlib.crc32(text.encode()) / 2**32
            return Reward(task=drawn, format=0.0, total=drawn, extracted=None, accuracy=drawn)
        s = sample
        return score(s.task, s.reward, s.answer, s.answer_type, text, self._config)


class Ours:
    """The RLVR stage's step, without its journal and checkpoints."""

    def __init__(
        self, setting: Setting, model: Path, samples: Sequence[Sample], judge: Judge
    ) -> None:
        from m2r_train.api.rlvr import RLVRSpec
        from m2r_train.engine.local import AdamWConfig, LocalEngine
        from m2r_train.model.policy import Policy
        from m2r_train.rollout.base import SamplingParams
        from m2r_train.stages.feeding import lay_out
        from m2r_train.stages.grpo import reference_of
        from m2r_train.stages.objective import Objective
        from m2r_train.stages.rollouts import rollout_engine

        spec = RLVRSpec.model_validate(self.spec(setting))
        opt, rollout = spec.optimization, spec.rollout
        self._setting, self._samples, self._step = setting, samples, 0
        self._judge = judge
        self._policy = Policy.load(model)
        self._prompts = lay_out(self._policy, samples)
        self._engine = LocalEngine(
            self._policy.module,
            AdamWConfig(
                beta1=opt.adam_beta1,
                beta2=opt.adam_beta2,
                weight_decay=opt.weight_decay,
                gradient_clip=opt.gradient_clip,
            ),
        )
        self._reference = reference_of(self._policy) if setting.beta else None
        self._objective = Objective.of(spec)
        self._sampler = rollout_engine(rollout.engine, self._policy)
        self._params = SamplingParams(
            rollout.group_size, rollout.temperature, rollout.max_completion_tokens
        )

    @staticmethod
    def spec(setting: Setting) -> dict[str, Any]:
        """The RLVRJob's spec: plain GRPO as TRL has it, without the weight of Eq. 6."""
        return {
            "model": {"preset": "tiny"},
            "dataset": {"uri": "file:///unused"},
            "rollout": {
                "engine": "inprocess",
                "groupSize": GROUP,
                "promptsPerStep": setting.prompts,
                "maxCompletionTokens": MAX_TOKENS,
                "temperature": 1.0,
            },
            "optimization": {
                "learningRate": LEARNING_RATE,
                "freezeVision": False,
                "advantageWeight": {"kind": "Off"},
                "advantageStd": "Sample",
                "lossNormalization": "Token",
                "clip": {"low": CLIP, "high": CLIP},
                "kl": {"schedule": "Constant", "start": setting.beta, "end": setting.beta},
            },
        }

    def run(self, steps: int) -> Block:
        """``steps`` steps with the stage's threads and deterministic kernels."""
        import torch

        from m2r_train.stages.models import use_threads

        use_threads(self._setting.threads)
        block = Block()
        clock = Clock(block)
        clock.start()
        for _ in range(steps):
            self._one(block)
        clock.stop()
        torch.use_deterministic_algorithms(False)
        return block

    def _one(self, block: Block) -> None:
        from m2r_train.core.packing import Row, pack_rows, padding_ratio
        from m2r_train.core.rng import derive_seed
        from m2r_train.stages.feeding import request
        from m2r_train.stages.grpo import step_record, update

        first = self._step * self._setting.prompts % len(self._samples)
        own = range(first, first + self._setting.prompts)
        chosen = [self._samples[i] for i in own]
        requests = [request(self._prompts[i], self._samples[i]) for i in own]
        seeds = [derive_seed(0, "rollout", self._step, i, s.id) for i, s in enumerate(chosen)]
        groups = self._sampler.generate(requests, seeds, self._params)
        scored = self._score(chosen, groups)
        stats = update(
            self._policy,
            self._reference,
            self._engine,
            requests,
            scored,
            self._objective,
            self._setting.beta,
            LEARNING_RATE,
        )
        self._sampler.update_weights()
        step_record(scored, stats, "mixed")
        self._step += 1
        block.completions += sum(map(len, groups))
        block.completion_tokens += sum(len(c.tokens) for group in groups for c in group)
        block.prompt_tokens += GROUP * sum(len(r.prompt.tokens) for r in requests)
        block.reward += sum(r.total for group in scored.rewards for r in group)
        prefilled = sum(len(r.prompt.tokens) for r in requests)
        alone = pack_rows([Row(r.prompt.tokens, r.prompt.positions, ()) for r in requests])
        drawn = sum(len(c.tokens) for group in groups for c in group)
        for cells, ratio in (
            (prefilled, padding_ratio([alone])),
            (prefilled + drawn, stats.padding),
        ):
            block.cells += cells
            block.padded += cells * ratio / (1 - ratio)

    def _score(self, samples: Sequence[Sample], groups: Sequence[Sequence[Completion]]) -> Scored:
        """``stages.grpo.score_groups`` with the judge's rewards."""
        from m2r_train.core.advantages import weighted_advantages
        from m2r_train.stages.grpo import Scored

        objective = self._objective
        texts = [[self._policy.decode(c.tokens) for c in group] for group in groups]
        rewards = [
            [self._judge(s, text) for text in own] for s, own in zip(samples, texts, strict=True)
        ]
        advantages = [
            weighted_advantages(
                [r.total for r in own],
                [r.accuracy for r in own],
                sigma=objective.sigma,
                std=objective.std,
                epsilon=objective.std_epsilon,
            )
            for own in rewards
        ]
        return Scored(samples, groups, texts, rewards, advantages)


def trl_settings(setting: Setting, *, cache: str | None, steps: int, folder: str) -> dict[str, Any]:
    """Arguments of ``GRPOConfig``: one batch is one step, and nothing that costs time for looks.

    Chosen for speed on this model after trying: the whole batch at once, no gradient
    checkpointing, no logging, tokenised prompts padded on the left, no vLLM (its CPU engine takes
    no new weights), SDPA attention.
    """
    return {
        "output_dir": folder,
        "max_steps": steps,
        "per_device_train_batch_size": setting.prompts * GROUP,
        "gradient_accumulation_steps": 1,
        "steps_per_generation": 1,
        "num_iterations": 1,
        "num_generations": GROUP,
        "max_completion_length": MAX_TOKENS,
        "temperature": 1.0,
        "cache_implementation": cache,
        "beta": setting.beta,
        "epsilon": CLIP,
        "loss_type": "dapo",
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "adam_beta2": 0.95,
        "max_grad_norm": 1.0,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "shuffle_dataset": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
    }


def trl_dataset(samples: Sequence[Sample]) -> Any:
    """TRL's columns; TRL puts the picture in front of the user's text, as our template has it."""
    from datasets import Dataset

    from m2r_train.data.images import decode
    from m2r_train.model.prompts import messages

    def turns(sample: Sample) -> list[dict[str, str]]:
        system, user = messages(sample)
        return [system, {"role": "user", "content": user["content"][-1]["text"]}]

    return Dataset.from_dict(
        {
            "prompt": [turns(s) for s in samples],
            "image": [decode(s.images[0]) for s in samples],
            "number": list(range(len(samples))),
        }
    )


def interleave(
    setting: Setting, model: Path, samples: Sequence[Sample], args: argparse.Namespace
) -> tuple[list[Block], list[Block]]:
    """Blocks of TRL's steps and of ours in turns, one pair untimed before; (TRL's, ours)."""
    import torch
    from transformers import (
        AutoProcessor,
        PrinterCallback,
        Qwen2_5_VLForConditionalGeneration,
        TrainerCallback,
    )
    from trl import GRPOConfig, GRPOTrainer

    judge = Judge(args.model)
    ours = Ours(setting, model, samples, judge)
    pairs: tuple[list[Block], list[Block]] = ([Block()], [])

    def reward(
        completions: list[list[dict[str, str]]],
        completion_ids: list[list[int]],
        number: list[int],
        **_: object,
    ) -> list[float]:
        totals = [
            judge(samples[i], c[0]["content"]).total
            for i, c in zip(number, completions, strict=True)
        ]
        block = pairs[0][-1]
        block.completions += len(totals)
        block.completion_tokens += sum(map(len, completion_ids))
        block.reward += sum(totals)
        return totals

    class Turns(TrainerCallback):
        """Stops TRL's clock between steps, and lets ours run after each block."""

        clock = Clock(pairs[0][0])
        seen = 0

        def on_step_begin(self, _args: Any, state: Any, control: Any, **_: object) -> None:
            self.clock.start()

        def on_step_end(self, _args: Any, state: Any, control: Any, **_: object) -> None:
            self.clock.stop()
            if state.global_step % args.steps:
                return
            block = pairs[0][-1]
            block.prompt_tokens = state.num_input_tokens_seen - self.seen - block.completion_tokens
            self.seen = state.num_input_tokens_seen
            pairs[1].append(ours.run(args.steps))
            progress(setting, len(pairs[1]) - 1, block, pairs[1][-1])
            if state.global_step < state.max_steps:
                pairs[0].append(Block())
                self.clock = Clock(pairs[0][-1])

    torch.set_num_threads(setting.threads)
    processor = AutoProcessor.from_pretrained(model, padding_side="left")
    with tempfile.TemporaryDirectory(prefix="m2r-bench-") as folder:
        trainer = GRPOTrainer(
            model=Qwen2_5_VLForConditionalGeneration.from_pretrained(
                model, dtype=torch.float32, attn_implementation=args.attention
            ),
            reward_funcs=reward,
            args=GRPOConfig(
                **trl_settings(
                    setting,
                    cache=args.cache,
                    steps=(args.blocks + 1) * args.steps,
                    folder=folder,
                )
            ),
            train_dataset=trl_dataset(samples),
            processing_class=processor,
            callbacks=[Turns()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return pairs[0][1:], pairs[1][1:]


# figures


def spread(values: Sequence[float]) -> dict[str, float]:
    """Lowest, median and highest."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def compare(trl: Sequence[Block], ours: Sequence[Block]) -> dict[str, Any]:
    """Rates of both (completions a second), their ratios, and what shows that the work was one.

    Raises ValueError when prompts differ, or mean lengths by more than the tolerance.
    """
    sides = {"trl": trl, "m2r": ours}
    figures: dict[str, Any] = {
        f"{name}_per_second": spread([b.rate for b in blocks]) for name, blocks in sides.items()
    }
    figures["ratio_of_medians"] = (
        figures["m2r_per_second"]["median"] / figures["trl_per_second"]["median"]
    )
    pairs = list(zip(trl, ours, strict=True))
    figures["ratio_of_pairs"] = spread([b.rate / a.rate for a, b in pairs])
    # of the work of all cores: what remains to compare where other processes disturb
    figures["ratio_of_cpu_seconds"] = statistics.median(
        a.cpu_seconds / b.cpu_seconds for a, b in pairs
    )
    for name, blocks in sides.items():
        total = sum(b.completions for b in blocks)
        figures[f"{name}_mean_tokens"] = sum(b.completion_tokens for b in blocks) / total
        figures[f"{name}_mean_reward"] = sum(b.reward for b in blocks) / total
    padded = sum(b.padded for b in ours)
    figures["m2r_padding"] = padded / (padded + sum(b.cells for b in ours)) if padded else 0.0
    if [b.prompt_tokens for b in trl] != [b.prompt_tokens for b in ours]:
        raise ValueError("the two were not given the same prompts: the figures mean nothing")
    lengths = figures["trl_mean_tokens"], figures["m2r_mean_tokens"]
    if max(lengths) > (1 + LENGTH_TOLERANCE) * min(lengths):
        raise ValueError(
            f"mean completion lengths differ by more than {LENGTH_TOLERANCE:.0%}: "
            f"TRL {lengths[0]:.1f}, M2R {lengths[1]:.1f} tokens: the figures mean nothing"
        )
    return figures


def progress(setting: Setting, number: int, trl: Block, ours: Block) -> None:
    """One line a pair of blocks, to where it does not mix with the result."""
    name = f"block {number}" if number else "warm-up"
    print(f"{setting} {name}: TRL {trl.rate:.0f}/s, M2R {ours.rate:.0f}/s", file=sys.stderr)


def row(setting: Setting, figures: dict[str, Any]) -> str:
    """A line of the table."""

    def cell(values: dict[str, float], digits: int) -> str:
        return " / ".join(f"{values[k]:.{digits}f}" for k in ("min", "median", "max"))

    cells = [
        str(setting.threads),
        f"{setting.prompts} x {GROUP}",
        f"{setting.beta:g}",
        cell(figures["trl_per_second"], 0),
        cell(figures["m2r_per_second"], 0),
        f"**{figures['ratio_of_medians']:.2f}**",
        cell(figures["ratio_of_pairs"], 2),
        f"{figures['ratio_of_cpu_seconds']:.2f}",
        f"{figures['trl_mean_tokens']:.1f}, {figures['m2r_mean_tokens']:.1f}",
        f"{figures['trl_mean_reward']:.3f}, {figures['m2r_mean_reward']:.3f}",
        f"{figures['m2r_padding']:.1%}",
    ]
    return f"| {' | '.join(cells)} |"


HEADER = (
    "| threads | prompts x group | beta | TRL completions/s | M2R completions/s | ratio of medians "
    "| ratio of pairs | ratio of CPU seconds | mean tokens TRL, M2R | mean reward TRL, M2R "
    "| padding M2R |"
)


def processor_name() -> str:
    """The CPU as the system calls it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def introduction(args: argparse.Namespace, samples: int, model: str) -> str:
    """What was compared, how, and with which settings."""
    versions = ", ".join(f"{p} {version(p)}" for p in ("trl", "transformers", "torch"))
    example = Setting(threads=1, prompts=16, beta=0.0)
    kept = trl_settings(example, cache=args.cache, steps=0, folder="")
    varying = ("output_dir", "max_steps", "per_device_train_batch_size", "beta")
    peer = ", ".join(f"{k} {v}" for k, v in kept.items() if k not in varying)
    return "\n".join(
        [
            "# RLVR step: M2R against TRL's GRPOTrainer",
            "",
            f"{processor_name()}; Python {platform.python_version()}, {versions}; float32.",
            f"{model}; {samples} prompts with a "
            f"picture of {96 if args.model == 'larger' else 64} px, at most {MAX_TOKENS} new "
            "tokens, temperature 1, all parameters trained, one update a batch, the same rewards. "
            f"{args.blocks} blocks of {args.steps} steps each, in turns, after one untimed pair; "
            "lowest / median / highest.",
            "",
            f"TRL: {peer}, attention {args.attention}, per_device_train_batch_size prompts x "
            f"{GROUP}; its clock stops while its data loader works.",
            "",
            "M2R: the stage's own functions and deterministic kernels; groups whose rewards are "
            "all equal stay out of the passes where beta is 0. Padding: share of the cells of "
            "prefill and update that hold no token.",
            "",
            HEADER,
            "|" + "---|" * (HEADER.count("|") - 1),
        ]
    )


# the model and the prompts


def cold_start(store: Path, steps: int) -> tuple[Path, list[Sample]]:
    """Model folder and RLVR prompts: the quickstart's data and SFT jobs, smaller.

    They are ordinary runs: a second call finds them done in the store.
    """
    import yaml

    from m2r_train.api import load_manifests, order
    from m2r_train.api.runspec import RunStorage
    from m2r_train.data.user import read_user_dataset
    from m2r_train.runner import run_all
    from m2r_train.stages.stop import StopRequest
    from m2r_train.telemetry.progress import Progress

    data, sft = (
        yaml.safe_load((QUICKSTART / name).read_text()) for name in ("1-data.yaml", "2-sft.yaml")
    )
    for source in data["spec"]["sources"]:
        kind, size = ("figures", "samples") if "figures" in source else ("simulator", "scenes")
        source[kind][size] //= 5
    data["spec"]["outputs"] = {"sft": 4000, "rlvr": PROMPTS, "eval": 0}
    sft["spec"]["training"]["steps"] = steps
    stop = StopRequest()
    with tempfile.TemporaryDirectory(prefix="m2r-bench-") as folder, Progress() as shown:
        manifest = Path(folder) / "cold-start.yaml"
        manifest.write_text(yaml.safe_dump_all([data, sft]))
        with stop.listening():
            made, trained = run_all(
                order(load_manifests([manifest])),
                store=RunStorage(uri=store.absolute().as_uri()),
                default_store="",
                seed=None,
                progress=shown,
                cache_dir=store / "inputs",
                stop=stop,
            )
    loaded = read_user_dataset(
        local_path(made.output_uri), split="rlvr", columns={}, max_bad_ratio=0.0, source="rlvr"
    )
    return local_path(trained.output_uri), loaded.samples


def larger(folder: Path) -> tuple[Path, list[Sample]]:
    """Model folder and prompts of ``--model larger``: random weights, simulated questions."""
    from m2r_train.model.policy import Policy
    from m2r_train.model.tiny import TinyShape, tiny_model
    from m2r_train.sim import VOCABULARY, generate

    shape = TinyShape(
        hidden=768,
        layers=12,
        heads=12,
        kv_heads=4,
        intermediate=3072,
        rope_theta=1e4,
        mrope_section=(8, 12, 12),
        initializer_range=0.02,
    )
    module, processor = tiny_model(VOCABULARY, 0, shape)
    processor.image_processor.size["longest_edge"] = 96 * 96  # pixels: 144 visual tokens
    Policy(module, processor).save(folder)
    return folder, [generate("ObjectCount", 0, i, image_size=96) for i in range(64)]


def local_path(uri: str) -> Path:
    """The folder of a ``file://`` URI."""
    return Path(uri.removeprefix("file://"))


# the command


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("M2R_CACHE") or Path(base) / "m2r")
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", choices=GOALS, default="quickstart")
    parser.add_argument("--threads", type=int, nargs="+")
    parser.add_argument("--prompts", type=int, nargs="+", help="a step")
    parser.add_argument("--beta", type=float, nargs="+", help="KL coefficient")
    parser.add_argument("--blocks", type=int, help="timed blocks of each side")
    parser.add_argument("--steps", type=int, help="steps of a block")
    parser.add_argument("--sft-steps", type=int, default=300, help="cold start before")
    parser.add_argument("--cache", help="TRL's cache_implementation; left out: its default")
    parser.add_argument("--attention", default="sdpa", help="TRL's attention")
    parser.add_argument(
        "--store", type=Path, default=cache / "bench-rlvr", help="where the cold start is kept"
    )
    parser.add_argument("--json", type=Path, help="also write the figures here, one line")
    args = parser.parse_args(argv)
    few = args.model == "larger"
    args.threads = args.threads or ([2] if few else [1, 2])
    args.prompts = args.prompts or ([4] if few else [16, 32])
    args.beta = args.beta if args.beta is not None else ([0.0] if few else [0.0, 0.04])
    args.blocks = args.blocks or (3 if few else 5)
    args.steps = args.steps or (1 if few else 4)
    return args


def main() -> None:
    """Measure every setting; exit 1 when the goal is missed."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    args = arguments()
    import transformers

    if args.model == "larger":
        model, samples = larger(args.store / "larger")
        name = "A model of 104 million random parameters, rewards by a hash of the text"
    else:
        model, samples = cold_start(args.store, args.sft_steps)
        name = f"The tiny preset after {args.sft_steps} steps of SFT"
    transformers.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    print(introduction(args, len(samples), name), flush=True)
    results = []
    for threads, prompts, beta in product(args.threads, args.prompts, args.beta):
        setting = Setting(threads=threads, prompts=prompts, beta=beta)
        try:
            figures = compare(*interleave(setting, model, samples, args))
        except ValueError as error:
            sys.exit(f"bench_rlvr: {error}")
        print(row(setting, figures), flush=True)
        results.append({"threads": threads, "prompts": prompts, "beta": beta, **figures})
    lowest = min(r["ratio_of_medians"] for r in results)
    padding = max(r["m2r_padding"] for r in results)
    goal = GOALS[args.model]
    print(f"\nLowest ratio of medians: {lowest:.2f}; the goal is {goal:g}.")
    print(f"Most padding: {padding:.1%}; the bound is {MOST_PADDING:.0%}.")
    if args.json:
        summary = {"goal": goal, "lowest_ratio": lowest, "results": results}
        args.json.write_text(json.dumps(summary, sort_keys=True) + "\n")
    sys.exit(lowest < goal or padding > MOST_PADDING)


if __name__ == "__main__":
    main()
