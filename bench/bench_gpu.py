"""One GPU: a GRPO step of the real architecture with random weights, against its physical bound.

    python bench/bench_gpu.py [--model 7B] [--lora 16] [--prompts 32] [--group 8] [--completion 512]
    python bench/bench_gpu.py --device cpu --tiny   # the whole script in seconds, no figure counts

Nothing is downloaded: sizes are those of the published config, weights are random, tokens too. No
token stops a completion, so each has all of its tokens. A step is what a stage does: weights go
over, the engine draws, the reference and the policy compute, AdamW steps. Before each step bare
vLLM (``LLM.generate``) draws from the same prompts. Prints Markdown: seconds by part (min, median,
max), tokens a second, model FLOPs utilisation (6 N T, the recomputed forward is not counted), the
bound of each part (45 % of the peak, 70 % of the bandwidth) and the peak of memory. What could not
be measured on this machine is named. 7B with adapters fits 80 GB; ``--model 3B
--lora 0`` (in full) wants 141 GB.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

# Dense bfloat16 operations a second, bytes a second of memory (vendors' data sheets).
DEVICES = {
    "H100": (989e12, 3.35e12),
    "H200": (989e12, 4.8e12),
    "A100": (312e12, 2.04e12),
    "B200": (2250e12, 8.0e12),
}
PARTS = ("sync", "generate", "train")


@dataclass(slots=True)
class Step:
    """Seconds of one step by part, and what it computed."""

    seconds: dict[str, float] = field(default_factory=dict)
    completion_tokens: int = 0
    trained_tokens: int = 0

    @property
    def total(self) -> float:
        """Seconds of our step, without the peer's part."""
        return sum(self.seconds[part] for part in PARTS)


class Rig:
    """A policy of the asked size, its engine, its sampler and bare vLLM where there is one."""

    def __init__(self, args: argparse.Namespace) -> None:
        import torch

        from m2r_train.api.rlvr import RLVRSpec
        from m2r_train.rollout.base import SamplingParams
        from m2r_train.stages.engines import training_engine
        from m2r_train.stages.grpo import reference_of
        from m2r_train.stages.models import device_of, use_threads
        from m2r_train.stages.objective import Objective
        from m2r_train.stages.rollouts import rollout_engine

        gpu = args.device == "cuda"
        spec = RLVRSpec.model_validate(
            {
                "model": {"preset": "tiny"},
                "dataset": {"uri": "file:///unused"},
                "rollout": {"groupSize": args.group, "maxCompletionTokens": args.completion},
                "optimization": {
                    "lora": {"rank": args.lora} if args.lora else None,
                    "precision": "BFloat16",
                    "gradientCheckpointing": True,
                },
                "resources": {"gpusPerNode": int(gpu), "cpu": str(args.threads)},
            }
        )
        use_threads(args.threads, gpu=gpu)
        self._args, self._gpu, self._torch = args, gpu, torch
        self.size = model_size(args)
        self.policy = random_policy(self.size, device_of(spec), tiny=args.tiny)
        self.engine = training_engine(self.policy, spec.optimization)
        self.reference = reference_of(self.policy)
        self.objective = Objective.of(spec)
        self.params = SamplingParams(args.group, 1.0, args.completion)
        self.sampler: Any = rollout_engine(args.engine, self.policy)
        named = dict(self.policy.module.named_parameters())
        self.parameters = sum(p.numel() for p in named.values())
        self.learning = sum(p.numel() for p in named.values() if p.requires_grad)
        self._number = 0

    def step(self) -> Step:
        """One step of ours, with bare vLLM before it."""
        from m2r_train.core.rng import derive_seed
        from m2r_train.stages.grpo import update

        args, step = self._args, Step()
        requests = self._requests(self._number)
        seeds = [derive_seed(0, "bench", self._number, i) for i in range(args.prompts)]
        self._time(step, "sync", self.sampler.update_weights)
        groups = self._time(
            step, "generate", lambda: self.sampler.generate(requests, seeds, self.params)
        )
        if args.engine == "vllm":
            step.seconds["bare"] = self._bare(requests, seeds)
        scored = self._scored(groups)
        self._time(
            step,
            "train",
            lambda: update(
                self.policy, self.reference, self.engine, requests, scored, self.objective,
                0.04, 1e-6,
            ),
        )  # fmt: skip
        step.completion_tokens = sum(len(c.tokens) for group in groups for c in group)
        prompts = sum(len(r.prompt.tokens) for r in requests)
        step.trained_tokens = step.completion_tokens + prompts
        self._number += 1
        return step

    def peak_bytes(self) -> int | None:
        """Most memory that torch held on the GPU; None without one."""
        return int(self._torch.cuda.max_memory_allocated()) if self._gpu else None

    def _time(self, step: Step, part: str, what: Callable[[], Any]) -> Any:
        self._wait()
        began = time.perf_counter()
        done = what()
        self._wait()
        step.seconds[part] = time.perf_counter() - began
        return done

    def _wait(self) -> None:
        if self._gpu:
            self._torch.cuda.synchronize()

    def _requests(self, number: int) -> list[Any]:
        """Prompts of random tokens that no picture belongs to."""
        from m2r_train.core.rng import derive_seed
        from m2r_train.model.policy import Prompt, Request

        torch, n = self._torch, self._args.prompt
        made = []
        for i in range(self._args.prompts):
            generator = torch.Generator().manual_seed(derive_seed(0, "prompt", number, i))
            tokens = torch.randint(0, 256, (n,), generator=generator).tolist()
            positions = torch.arange(n).expand(3, -1)
            made.append(Request(Prompt(tuple(tokens), positions, (), 0), ()))
        return made

    def _bare(self, requests: Sequence[Any], seeds: Sequence[int]) -> float:
        """Seconds of vLLM's own ``generate`` with the same weights, prompts and seeds."""
        self.sampler.update_weights()
        engine, given = self.sampler, [self.sampler._given(r) for r in requests]
        params = [engine._sampling(seed, self.params) for seed in seeds]
        engine._forget()
        self._wait()
        began = time.perf_counter()
        with engine._host.awake():
            engine._llm.generate(given, params, use_tqdm=False)
        self._wait()
        seconds = time.perf_counter() - began
        engine._current = engine._host.rest(engine._llm)
        return seconds

    def _scored(self, groups: Sequence[Sequence[Any]]) -> Any:
        """Advantages that differ in every group, as if every prompt taught something."""
        from m2r_train.core.advantages import GroupAdvantages
        from m2r_train.stages.grpo import Scored

        advantages = [
            GroupAdvantages([1.0 if g % 2 else -1.0 for g in range(len(own))], 1.0, 0.5)
            for own in groups
        ]
        return Scored([], groups, [], [], advantages)


def model_size(args: argparse.Namespace) -> Any:
    """The sizes that ``--model`` and ``--tiny`` name."""
    from m2r_train.core.sizing import QWEN25_VL_3B, QWEN25_VL_7B, ModelSize

    if not args.tiny:
        return {"3B": QWEN25_VL_3B, "7B": QWEN25_VL_7B}[args.model]
    return ModelSize(
        hidden=256, layers=2, heads=2, kv_heads=1, intermediate=256, vocabulary=2048, tied=True,
        vision_hidden=64, vision_layers=1, vision_intermediate=64,
    )  # fmt: skip


def random_policy(size: Any, device: Any, *, tiny: bool) -> Any:
    """Random bfloat16 weights on the device; the tokenizer is the preset's, its tokens a part."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from m2r_train.model.policy import Policy
    from m2r_train.model.published import config_of
    from m2r_train.model.tiny import TinyShape, tiny_processor

    processor = tiny_processor(("a",), TinyShape(patch=14, merge=2))
    table = config_of(size)
    token = processor.tokenizer.convert_tokens_to_ids
    table["image_token_id"], table["video_token_id"] = (
        token("<|image_pad|>"),
        token("<|video_pad|>"),
    )
    table["vision_start_token_id"] = token("<|vision_start|>")
    table["vision_end_token_id"] = token("<|vision_end|>")
    if tiny:
        table["vision_config"]["fullatt_block_indexes"] = [0]
        table["vision_config"]["num_heads"] = 2
    config = Qwen2_5_VLConfig.from_dict(table)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        module = Qwen2_5_VLForConditionalGeneration(config)
    frequencies = _rope_buffers(config)
    module.to_empty(device=device)
    module.tie_weights()
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            wide = torch.empty(parameter.shape, device=device)
            wide.normal_(0.0, 0.02, generator=generator)
            parameter.data = (wide if parameter.ndim > 1 else wide + 1).bfloat16()
        for name, buffer in module.named_buffers():
            buffer.copy_(frequencies[name])
    policy = Policy(module.eval(), processor)
    policy.stop_tokens = ()
    return policy


def _rope_buffers(config: Any) -> dict[str, Any]:
    """The rope frequencies, from a model of the same heads and no depth."""
    import copy

    from transformers import Qwen2_5_VLForConditionalGeneration

    small = copy.deepcopy(config)
    small.text_config.num_hidden_layers = 1
    small.text_config.layer_types = small.text_config.layer_types[:1]
    small.text_config.vocab_size = 8
    small.text_config.intermediate_size = 8
    small.text_config.pad_token_id = None
    small.vision_config.depth = 1
    import torch

    with torch.random.fork_rng(devices=[]):
        return dict(Qwen2_5_VLForConditionalGeneration(small).named_buffers())


def report(rig: Rig, steps: Sequence[Step], args: argparse.Namespace, device: str) -> str:
    """The page, in Markdown."""
    from m2r_train.core.sizing import step_bound_seconds, training_flops, utilization

    peak_of = next((v for k, v in DEVICES.items() if k in device), None)
    share = rig.learning / rig.parameters
    tokens = statistics.median(s.trained_tokens for s in steps)
    drawn = statistics.median(s.completion_tokens for s in steps)
    lines = [
        f"{device}; {rig.parameters / 1e9:.3g} B parameters, {rig.learning / 1e9:.3g} B learn; "
        f"{args.prompts} prompts of {args.prompt} x {args.group} completions of {args.completion} "
        f"tokens; engine {args.engine}; {len(steps)} steps",
        "",
        "| part | min s | median s | max s | tokens/s | bound s |",
        "|---|---|---|---|---|---|",
    ]
    bound: dict[str, float] = {}
    if peak_of is not None:
        bound = step_bound_seconds(
            size=rig.size, sequences=args.prompts * args.group, completion=args.completion,
            tokens=int(tokens), peak=peak_of[0], bandwidth=peak_of[1], reference=True,
            learning=share,
        )  # fmt: skip
        bound["train"] += bound.pop("reference")
    for part in (*PARTS, "bare", "step"):
        own = [s.total if part == "step" else s.seconds.get(part, 0.0) for s in steps]
        if not any(own):
            continue
        count = {"generate": drawn, "bare": drawn, "train": tokens, "step": tokens}.get(part, 0)
        middle = statistics.median(own)
        least = sum(bound.values()) if part == "step" else bound.get(part, 0.0)
        lines.append(
            f"| {part} | {min(own):.3f} | {middle:.3f} | {max(own):.3f} | "
            f"{f'{count / middle:.0f}' if count else ''} | {f'{least:.3f}' if least else ''} |"
        )
    train = statistics.median(s.seconds["train"] for s in steps)
    step = statistics.median(s.total for s in steps)
    flops = training_flops(rig.size, int(tokens), learning=share)
    if peak_of is not None:
        used = utilization(flops, train, peak_of[0])
        lines += ["", f"MFU of the update (the reference's pass in its time): {used:.1%}"]
        lines.append(f"bound / step: {sum(bound.values()) / step:.2f}")
    sync = statistics.median(s.seconds["sync"] for s in steps)
    lines += ["", f"weight transfer: {sync:.3f} s, {sync / step:.1%} of a step"]
    if all("bare" in s.seconds for s in steps):
        ratio = statistics.median(s.seconds["bare"] / s.seconds["generate"] for s in steps)
        lines.append(f"generation against bare vLLM: {ratio:.3f}")
    peak = rig.peak_bytes()
    if peak is not None:
        lines.append(f"peak memory of torch: {peak / 2**30:.1f} GiB")
    missing = _missing(args, peak_of is None)
    if missing:
        lines += ["", "Not measured here: " + "; ".join(missing) + "."]
    return "\n".join(lines)


def _missing(args: argparse.Namespace, unknown: bool) -> list[str]:
    missing = []
    if args.device != "cuda":
        missing.append("anything of a GPU (no figure of this page says something about one)")
        missing.append("peak memory")
    if unknown:
        missing.append("utilisation and bounds (the device's peak is not known)")
    if args.engine != "vllm":
        missing.append("vLLM, hence no comparison with it")
    if args.tiny:
        missing.append("a model of real size")
    return missing


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; ``--tiny`` makes everything small."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--model", choices=("3B", "7B"), default="7B")
    parser.add_argument("--lora", type=int, default=16, help="rank; 0 trains every parameter")
    parser.add_argument("--engine", choices=("vllm", "inprocess"))
    parser.add_argument("--prompts", type=int)
    parser.add_argument("--prompt", type=int, help="tokens of a prompt")
    parser.add_argument("--group", type=int)
    parser.add_argument("--completion", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(given)
    usual = {"prompts": 32, "prompt": 512, "group": 8, "completion": 512, "steps": 4}
    if args.tiny:
        usual = {"prompts": 2, "prompt": 6, "group": 2, "completion": 4, "steps": 2}
    for name, value in usual.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.engine = args.engine or ("vllm" if args.device == "cuda" else "inprocess")
    return args


def main(given: Sequence[str] | None = None) -> int:
    """Runs the steps after one that does not count, and prints the page."""
    import torch

    from m2r_train.api.errors import M2RError

    args = arguments(given)
    try:
        rig = Rig(args)
        rig.step()
        steps = [rig.step() for _ in range(args.steps)]
    except M2RError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    device = (
        torch.cuda.get_device_name() if args.device == "cuda" else platform.processor() or "CPU"
    )
    print(report(rig, steps, args, device))
    return 0


if __name__ == "__main__":
    sys.exit(main())
