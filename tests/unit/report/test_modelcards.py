"""A model's card: lineage through the cards of its ancestors, figures of its history, scores."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from unit.report.manifests import HOSTILE

from m2r_train.api.errors import DataError
from m2r_train.api.rlvr import RLVRSpec
from m2r_train.api.runspec import recipe
from m2r_train.api.sft import SFTSpec
from m2r_train.report.modelcard import MAX_CARD, ModelFacts, model_card, read_card, with_scores

DATA = {"from": {"kind": "DataSynthesisJob", "name": "data"}, "split": "sft"}
SFT = recipe(SFTSpec.model_validate({"model": {"preset": "tiny"}, "dataset": DATA}))
RLVR = recipe(
    RLVRSpec.model_validate(
        {
            "model": {"from": {"kind": "SFTJob", "name": "sft"}},
            "dataset": {"uri": "s3://lab/own&*data", "split": "rlvr"},
            "rollout": {"groupSize": 8},
        }
    )
)
HISTORY = [
    {"step": 0, "loss": 3.0, "lr": 1e-3, "tokens": 1000, "eval_loss": 4.0},
    {"step": 1, "loss": 2.0, "lr": 0.0, "tokens": 500},
    {"step": 2, "eval_loss": 1.25},
]
RESULTS = {
    "eval-sft": {
        "benchmarks": {
            "synthetic": {
                "overall": {"value": 61.04, "n": 12, "stderr": 1.5},
                "Sum": {"value": 50.0, "n": 6, "stderr": None},
            },
            "wemath": {"overall": {"value": None, "n": 0, "stderr": None}},
        }
    }
}


def facts(**changes: Any) -> ModelFacts:
    whole: dict[str, Any] = {
        "kind": "SFTJob",
        "name": "sft",
        "seed": 7,
        "spec": SFT,
        "digests": {"dataset": "d" * 64, "evaluation.dataset": "e" * 64},
        "history": HISTORY,
    }
    return ModelFacts(**whole | changes)


def header_of(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.split("---\n", 2)[1])
    return found


def test_a_card_tells_data_recipe_steps_tokens_and_that_there_are_no_scores() -> None:
    card = model_card(facts())
    assert header_of(card)["pipeline_tag"] == "image-text-to-text"
    assert "| SFTJob sft | 2 | preset tiny | DataSynthesisJob data, split sft | " + "d" * 64 in card
    assert "| tokens trained on | 1,500 |" in card
    assert "| held-out loss, nats a token | 1.25 |" in card
    assert "tokensPerBatch: 262144" in card
    assert "None are known here" in card
    assert "checkpoint" not in card  # where and how often state was saved is no part of a model
    assert "e" * 64 not in card


def test_a_model_made_from_ours_carries_its_lineage_on() -> None:
    rlvr = facts(
        kind="RLVRJob",
        name="rlvr",
        spec=RLVR,
        digests={"dataset": "f" * 64, "model": "b" * 64},
        history=[{"step": 0, "lr": 1.0, "prompts": 4, "completion_tokens": 10.5, "reward": 0.5}],
        base_card=model_card(facts()),
    )
    card = model_card(rlvr)
    lineage = header_of(card)["m2r"]["lineage"]
    assert [(x["kind"], x["name"], x["steps"]) for x in lineage] == [
        ("SFTJob", "sft", 2),
        ("RLVRJob", "rlvr", 1),
    ]
    assert lineage[1]["model_digest"] == "b" * 64
    assert header_of(card)["tags"] == ["m2r", "sft", "rlvr"]
    assert "| SFTJob sft | 2 |" in card
    assert "| tokens of completions | 336 |" in card
    scored = with_scores(card, {"eval-rlvr": RESULTS["eval-sft"]})
    assert header_of(scored)["m2r"]["lineage"] == lineage
    assert header_of(scored)["model-index"][0]["name"] == "rlvr"


def test_a_lineage_keeps_its_newest_runs() -> None:
    card = ""
    for number in range(40):
        card = model_card(facts(name=f"n{number}", base_card=card))
    names = [entry["name"] for entry in header_of(card)["m2r"]["lineage"]]
    assert names == [f"n{number}" for number in range(8, 40)]


def test_scores_take_the_place_of_none_and_all_else_stays() -> None:
    card = model_card(facts())
    scored = with_scores(card, RESULTS)
    assert "| eval-sft | synthetic | overall | 61.04 | 1.50 | 12 |" in scored
    assert "| eval-sft | synthetic | Sum | 50.00 |  | 6 |" in scored
    assert "wemath" not in scored
    assert "None are known here" not in scored
    assert scored.partition("## Recipe")[2] == card.partition("## Recipe")[2]
    (result,) = header_of(scored)["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == 61.04
    assert with_scores(scored, RESULTS) == scored


def test_the_licence_is_that_of_the_base() -> None:
    base = "---\nlicense: other\nlicense_name: qwen-research\nlicense_link: javascript:x\n---\n# Q"
    header = header_of(model_card(facts(base_card=base)))
    assert (header["license"], header["license_name"]) == ("other", "qwen-research")
    assert "license_link" not in header
    assert "license" not in header_of(model_card(facts()))


BOMB = "---\na: &a [x, x]\nb: &b [*a, *a]\nm2r: {lineage: [*b]}\nlicense: mit\n---\n"


@pytest.mark.parametrize(
    "base",
    [
        BOMB,
        "---\n[\n---\n",
        "---\n- a\n---\n",
        "---\nlicense: [mit]\n---\n",
        "---\nm2r: {lineage: [{kind: SFTJob}]}\n---\n",
        "---\nm2r: {lineage: [{kind: Evil, name: x}]}\n---\n",
        "---\nm2r: [1]\n---\n",
        "---\na: !!python/object/apply:os.system [x]\n---\n",
        "---\n" + "[" * 5000 + "\n---\n",
        "---\nlicense: mit\n---\n" + "x" * MAX_CARD,
        "no header",
    ],
)
def test_a_foreign_card_is_read_with_care(base: str) -> None:
    assert model_card(facts(base_card=base)) == model_card(facts())


def test_text_of_users_stays_text() -> None:
    base = model_card(facts()).replace("preset tiny", "'" + HOSTILE.replace("\n", " ") + "'")
    card = model_card(facts(base_card=base, spec=SFT | {"dataset": {"uri": HOSTILE}}))
    body = card.split("---\n", 2)[2]
    assert "<script" not in body
    assert "\n# head" not in body
    table = [line for line in body.splitlines() if line.startswith("| SFTJob sft |")]
    assert len(table) == 2
    assert "p4ss" not in model_card(facts(spec=SFT | {"model": {"uri": "s3://u:p4ss@h/x"}}))


@pytest.mark.parametrize("card", ["", "# Q", "---\nlicense: mit\n---\n## Scores\nx\n## Recipe\n"])
def test_scores_are_not_put_into_foreign_cards(card: str) -> None:
    with pytest.raises(DataError, match="not a card that M2R wrote"):
        with_scores(card, RESULTS)


def test_a_folder_without_a_card_has_none(tmp_path: Any) -> None:
    assert read_card(tmp_path) == ""
    (tmp_path / "README.md").write_bytes(b"\xff# Q")
    assert read_card(tmp_path).endswith("# Q")
    (tmp_path / "README.md").write_bytes(b"x" * (MAX_CARD + 1))
    assert read_card(tmp_path) == ""
