"""RLVR and evaluation with the engine vllm, as whole runs: killed, and as if nothing happened."""

from __future__ import annotations

import json

from pyarrow import parquet
from runs import Golden
from trials import Trial, stages


def history(golden: Golden) -> list[dict[str, float]]:
    lines = (golden.folder("rlvr") / "records/history.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_every_step_is_drawn_from_the_policy_that_is_trained(golden: Golden) -> None:
    steps = history(golden)
    assert [step["step"] for step in steps] == [0, 1, 2, 3]
    assert any(step["grad_norm"] > 0 for step in steps)  # weights moved, so stale ones would show
    assert all(step["sampler_logp_diff"] < 1e-5 for step in steps)


def test_most_of_what_was_trained_and_scored_are_clips(golden: Golden) -> None:
    for split in ("rlvr", "eval"):
        rows = parquet.read_table(golden.folder("data") / "dataset" / split).to_pylist()
        assert sum(row["video"] is not None for row in rows) > len(rows) / 2
    answers = (golden.folder("judged") / "eval/samples/vsi-bench.jsonl").read_text().splitlines()
    assert len(answers) == 10
    assert all(json.loads(line)["sampled"][0]["text"] for line in answers)


def test_answers_of_an_evaluation_are_vllms(golden: Golden) -> None:
    scores = golden.resource("eval-rlvr")["scores"]["synthetic"]["overall"]
    assert scores["n"] == 12 and scores["stderr"] is not None


def test_a_teachers_chains_are_vllms_and_right_ones_are_kept(golden: Golden) -> None:
    rows = parquet.read_table(golden.folder("taught") / "dataset/sft").to_pylist()
    assert len(rows) == 4
    assert all(row["chain"].endswith(f"\\boxed{{{row['answer']}}}</answer>") for row in rows)


def test_answers_are_asked_for_and_judged_by_vllm_in_one_process(golden: Golden) -> None:
    lines = (golden.folder("judged") / "eval/samples/mathvista.jsonl").read_text().splitlines()
    answers = [one for line in lines for one in json.loads(line)["sampled"]]
    judged = [answer["judged"] for answer in answers]
    exchanges = [one["exchange"] for one in judged if one["exchange"]]
    assert exchanges and all(turn["said"] for exchange in exchanges for turn in exchange)


@stages("rlvr")
def test_a_killed_run_draws_the_same_again_or_takes_it_from_the_journal(trial: Trial) -> None:
    trial.killed_at("before-journal:2")  # step 1 was drawn and is lost, so it is drawn again
    assert trial.journals[-1] == {(1, "s0/rollouts")}
    trial.killed_at("before-save:1")  # step 1 is in the journal, and not saved
    assert trial.journals[-1] == {(1, "s0/rollouts"), (2, "s1/rollouts")}
    trial.finish()  # bit for bit the golden run
