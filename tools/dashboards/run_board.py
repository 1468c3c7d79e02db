"""The dashboard of one run: does it learn, is it healthy, is it fast, is it safe."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.panels import OR_ZERO, RATE, Panel, Query, board, figure, lines, section, variable

# Pods of one run that train together all tell of the whole run, and of several that share the work
# of synthesis or evaluation the first one does: its series are the run's.
_RUN: Final = 'namespace="$namespace", run_kind="$kind", run="$run"'
_OWN: Final = f'{_RUN}, index=~"0|"'
# As NVIDIA's dcgm-exporter labels them, with `honorLabels` and without.
_PODS: Final = r'"${run}-[a-z]+-[0-9]+-.*"'


def run_board() -> Dashboard:
    """``m2r-run``."""
    made = board(
        "m2r-run",
        "M2R / Run",
        "One run of any kind: rewards, policy, completions, speed, checkpoints, restarts.",
        [
            variable("namespace", "Namespace of the run.", "m2r_steps_planned", "namespace",
                     several=False),
            variable("kind", "Kind of the run.", 'm2r_steps_planned{namespace="$namespace"}',
                     "run_kind", several=False),
            variable("run", "Name of the run.",
                     'm2r_steps_planned{namespace="$namespace", run_kind="$kind"}', "run",
                     several=False),
        ],
        "now-6h",
    )  # fmt: skip
    section(made, "Now", _now())
    section(made, "Reward", _reward())
    section(made, "Policy", _policy())
    section(made, "Completions and curriculum", _completions())
    section(made, "Speed", _speed())
    section(made, "Checkpoints, restarts and the store", _safety())
    section(made, "Scores and GPUs", _rest())
    return made


def _of(series: str, more: str = "") -> str:
    return f"{series}{{{_OWN}{more}}}"


def _told(series: str) -> str:
    """A gauge of the last step, once there is one: until then it stands at 0, and says nothing."""
    return f"{_of(series)} and on () ({_of('m2r_last_step_timestamp_seconds')} > 0)"


def _rate(series: str, more: str = "") -> str:
    return f"rate({_of(series, more)}{RATE})"


def _now() -> list[Panel]:
    since = f"time() - ({_of('m2r_last_step_timestamp_seconds')} > 0)"
    alerts = f'count(ALERTS{{alertname=~"M2R.*", alertstate="firing", {_RUN}}}){OR_ZERO}'
    return [
        figure("Progress", "Steps done, as a share of those planned.", "percentunit",
               f"{_of('m2r_step')} / ({_of('m2r_steps_planned')} > 0)"),
        figure("Step", "The last step that is done.", "short", _of("m2r_step")),
        figure("Since the last step", "Time since a step ended; M2RStalled watches it.", "s",
               since, bad_from=1800),
        figure("Tokens per second", "Tokens read, drawn and trained on.", "short",
               f"sum({_rate('m2r_tokens_total')})"),
        figure("Goodput", "Share of the time since the run's first start that went into steps "
               "that count.", "percentunit", _of("m2r_goodput_ratio")),
        figure("MFU", "Model FLOPs per second, as a share of the devices' peak. None where that "
               "is not known.", "percentunit", f"{_of('m2r_model_flops_utilization_ratio')} > 0"),
        figure("Attempt", "Which attempt runs; each restart and preemption adds one.", "short",
               f"{_of('m2r_attempt')} > 0"),
        figure("Alerts", "M2R's alerts on this run that fire now.", "short", alerts, bad_from=1),
    ]  # fmt: skip


def _reward() -> list[Panel]:
    return [
        lines("Reward by task", "Mean reward of the last step of each task, all components "
              "together.", "short",
              Query(_of("m2r_reward_mean", ', component="total"'), "{{task}}")),
        lines("Reward by component", "Mean over tasks of each component: the answer's (exact or "
              "EDNM), the format's, and the total.", "short",
              Query(f"avg by (component) ({_of('m2r_reward_mean')})", "{{component}}")),
        lines("Spread of the reward", "Standard deviation within a step, by task. Near zero there "
              "is nothing to learn from.", "short",
              Query(_of("m2r_reward_std"), "{{task}}"), low=0),
        lines("Accuracy by task", "Share of right answers in the last step of each task.",
              "percentunit", Query(_of("m2r_accuracy_mean"), "{{task}}"), low=0, high=1),
        lines("Held-out accuracy", "Greedy accuracy on samples that are not trained on "
              "(spec.evaluation); 0 until the attempt's first evaluation.", "percentunit",
              Query(_told("m2r_heldout_score"), "held out"), low=0, high=1),
        lines("Groups without a signal", "Share of groups whose completions all earn the same: "
              "their advantages are zero.", "percentunit",
              Query(_told("m2r_zero_signal_groups_ratio"), "no signal"), low=0, high=1),
    ]  # fmt: skip


def _policy() -> list[Panel]:
    return [
        lines("KL to the reference", "Mean estimate per token.", "short",
              Query(_told("m2r_kl"), "nats per token")),
        lines("KL coefficient", "Weight of the KL term in the loss (annealed; paper, "
              "equation 7).", "short", Query(_told("m2r_kl_coefficient"), "coefficient"), low=0),
        lines("Entropy", "Mean entropy of the policy. A fall to zero ends exploration.", "short",
              Query(_told("m2r_entropy"), "nats per token"), low=0),
        lines("Advantage weight", "Mean weight of the advantages by difficulty (paper, "
              "equation 6).", "short", Query(_told("m2r_advantage_weight_mean"), "weight"), low=0),
        lines("Clipped tokens", "Share of tokens whose policy ratio left the clip range.",
              "percentunit", Query(_told("m2r_clip_ratio"), "clipped"), low=0),
        lines("Sampler against trainer", "Mean absolute difference of log-probabilities; "
              "M2RSamplerGap fires above 0.2.", "short",
              Query(_told("m2r_sampler_logp_diff"), "nats per token"), low=0),
        lines("Loss", "Loss of the last step, and per token on held-out samples of an SFTJob.",
              "short", Query(_told("m2r_loss"), "loss"),
              Query(f"{_of('m2r_heldout_loss')} > 0", "held out")),
        lines("Gradient norm", "Before clipping.", "short",
              Query(_told("m2r_grad_norm"), "norm"), low=0),
        lines("Learning rate", "Of the last step.", "sci",
              Query(_told("m2r_learning_rate"), "learning rate"), low=0),
    ]  # fmt: skip


def _completions() -> list[Panel]:
    share = f"sum by (le) ({_rate('m2r_completion_tokens_bucket')})"
    mean = f"{_rate('m2r_completion_tokens_sum')} / {_rate('m2r_completion_tokens_count')}"
    return [
        lines("Length of completions", "Tokens: mean, and quantiles read off the histogram.",
              "short", Query(mean, "mean"),
              Query(f"histogram_quantile(0.5, {share})", "median"),
              Query(f"histogram_quantile(0.95, {share})", "95 %"), low=0),
        lines("Quality of completions", "Shares that were cut at the limit, that repeat "
              "themselves, and that have one think and one answer block.", "percentunit",
              Query(_told("m2r_truncated_ratio"), "truncated"),
              Query(_told("m2r_repetition_ratio"), "repetitive"),
              Query(_told("m2r_format_valid_ratio"), "valid format"), low=0, high=1),
        lines("Curriculum", "Mean difficulty of the prompts drawn last, by task; it rises with "
              "order Ascending.", "short",
              Query(_of("m2r_curriculum_difficulty"), "{{task}}"), low=0),
        lines("Signs of a collapse", "1 while the trainer's monitors see the sign "
              "(spec.monitors).", "bool", Query(_of("m2r_alarm"), "{{sign}}"),
              width=12, low=0, high=1),
        lines("Steps that were skipped", "Loss or gradient was not finite.", "short",
              Query(f"increase({_of('m2r_nonfinite_steps_total')}{RATE})", "skipped"),
              width=12, low=0),
    ]  # fmt: skip


def _speed() -> list[Panel]:
    phases = f"{_rate('m2r_step_phase_seconds_sum')} / {_rate('m2r_step_phase_seconds_count')}"
    return [
        lines("Phases of a step", "Mean seconds that a step spends in each phase it has.", "s",
              Query(phases, "{{phase}}"), width=12, stacked=True, low=0),
        lines("Tokens per second", "By kind: read, drawn, trained on.", "short",
              Query(_rate("m2r_tokens_total"), "{{kind}}"), width=12, stacked=True, low=0),
        lines("Completions per second", "Completions that were drawn and scored.", "short",
              Query(_rate("m2r_samples_total"), "completions"), low=0),
        lines("Goodput", "Share of the time since the first start spent on steps that count: "
              "waiting, restarts and repeated steps lower it.", "percentunit",
              Query(_of("m2r_goodput_ratio"), "goodput"), low=0, high=1),
        lines("MFU", "Model FLOPs per second of each step, evaluation and checkpoints left out, as "
              "a share of the devices' peak. None where that is not known.", "percentunit",
              Query(f"{_of('m2r_model_flops_utilization_ratio')} > 0", "MFU"), low=0, high=1),
    ]  # fmt: skip


def _safety() -> list[Panel]:
    mean = f"{_of('m2r_checkpoint_seconds_sum')} / {_of('m2r_checkpoint_seconds_count')}"
    errors = f"sum by (operation, error) (increase({_of('m2r_store_errors_total')}{RATE}))"
    unsafe = f"{_of('m2r_step')} - ({_of('m2r_checkpoint_last_step')} > 0)"
    return [
        lines("Steps at risk", "Steps done since the last durable checkpoint: what a kill would "
              "cost now.", "short", Query(unsafe, "steps"), low=0),
        lines("Time of a checkpoint", "Mean of this attempt: the copy that training waits for, "
              "the upload beside it, and the restore at the start.", "s",
              Query(mean, "{{phase}}"), low=0),
        lines("Training waits for the store", "Share of the time that a checkpoint waited for the "
              "one before it.", "percentunit",
              Query(_rate("m2r_checkpoint_wait_seconds_total"), "waiting"), low=0),
        lines("Size of a checkpoint", "Of the last one.", "bytes",
              Query(f"{_of('m2r_checkpoint_bytes')} > 0", "bytes"), width=6, low=0),
        lines("Checkpoint interval", "Steps between two, as checkpoint.interval Auto has chosen; "
              "0 where it is fixed.", "short",
              Query(_of("m2r_checkpoint_interval_steps"), "steps"), width=6, low=0),
        lines("Attempts", "Each restart and preemption adds one.", "short",
              Query(f"{_of('m2r_attempt')} > 0", "attempt"), width=6, low=0),
        lines("Errors of the store", "Failed requests, retried or not; a flat line at 0 while "
              "there is none.", "short",
              Query(f"{errors}{OR_ZERO}", "{{operation}} {{error}}"), width=6, low=0),
    ]  # fmt: skip


def _rest() -> list[Panel]:
    pods = (f'namespace="$namespace", pod=~{_PODS}', f'exported_namespace="$namespace", '
            f"exported_pod=~{_PODS}")  # fmt: skip

    def gpus(series: str) -> str:
        either = " or ".join(f"{series}{{{selector}}}" for selector in pods)
        return f"max by (Hostname, gpu) ({either})"

    return [
        lines("Scores", "Scores of an EvalJob, by benchmark and part; known at its end.",
              "percentunit",
              Query(f"last_over_time({_of('m2r_eval_score')}{RATE})",
                    "{{benchmark}} {{subtask}}"), low=0, high=1),
        lines("GPUs at work", "Share of the time that any engine of the GPU is busy, of the run's "
              "pods (dcgm-exporter).", "percentunit",
              Query(gpus("DCGM_FI_PROF_GR_ENGINE_ACTIVE"), "{{Hostname}} GPU {{gpu}}"),
              low=0, high=1),
        lines("GPU memory", "Memory in use on the GPUs of the run's pods (dcgm-exporter).",
              "mbytes",
              Query(gpus("DCGM_FI_DEV_FB_USED"), "{{Hostname}} GPU {{gpu}}"), low=0),
    ]  # fmt: skip
