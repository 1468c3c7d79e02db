"""The dataset's card: read by the `datasets` library, equal for equal runs, safe for any text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.report.manifests import HOSTILE, manifest

from m2r_train.api.errors import DataError
from m2r_train.core.records import Sample
from m2r_train.data.parquet import write_shard
from m2r_train.report.cards import CARD, dataset_card
from m2r_train.report.markdown import fenced, plain, to_yaml


def header_of(card: str) -> dict[str, Any]:
    """The YAML header, as the Hugging Face libraries cut it out."""
    _, header, _ = card.split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(header)
    return found


def row_of(card: str, first: str) -> list[str]:
    line = next(line for line in card.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_header_names_splits_size_and_tasks() -> None:
    header = header_of(dataset_card(manifest()))
    assert header["configs"] == [
        {
            "config_name": "default",
            "data_files": [
                {"split": "sft", "path": "sft/*.parquet"},
                {"split": "rlvr", "path": "rlvr/*.parquet"},
            ],
        }
    ]
    assert header["size_categories"] == ["n<1K"]
    assert header["task_categories"] == ["question-answering", "visual-question-answering"]
    assert "license" not in header


def test_the_body_has_splits_drops_recipe_and_inputs() -> None:
    card = dataset_card(manifest())
    assert row_of(card, "all") == ["all", "60", "40", "0", "100"]
    assert row_of(card, "ObjectCount") == ["ObjectCount", "40", "10", "0", "50"]
    assert row_of(card, "decontaminate")[1:3] == ["160", "150"]
    assert row_of(card, "judge")[1:3] == ["380", "300"]
    assert "a" * 64 in card
    assert "minMean: 4" in card
    assert "150 questions were asked, 90 have a chain" in card


def without_code(text: str) -> str:
    """Markdown less its fenced blocks, as a renderer finds them; each must be closed."""
    kept, fence = [], ""
    for line in text.splitlines():
        if fence:
            fence = "" if line.startswith(fence) and not line.strip("`") else fence
        elif (found := re.match("`{3,}", line)) is not None:
            fence = found[0]
        else:
            kept.append(line)
    assert not fence
    return "\n".join(kept)


@pytest.mark.parametrize(
    ("samples", "size"),
    [(999, "n<1K"), (1000, "1K<n<10K"), (294_200, "100K<n<1M"), (10**6, "1M<n<10M")],
)
def test_sizes_in_the_words_of_the_hub(samples: int, size: str) -> None:
    told = manifest(
        sources={"a": {"made": samples, "kept": samples}},
        dropped={},
        splits={"sft": {"samples": samples, "tasks": {"T": samples}}},
    )
    assert header_of(dataset_card(told))["size_categories"] == [size]


def test_text_of_users_stays_text() -> None:
    told = manifest(run=HOSTILE, prompts={HOSTILE: HOSTILE + "\n````\n" + HOSTILE})
    told["splits"]["sft"]["tasks"] = {HOSTILE: 60}
    card = dataset_card(told)
    assert header_of(card)["pretty_name"] == HOSTILE
    outside = without_code(card.split("---\n", 2)[2])
    assert "<script" not in outside
    assert not re.search(r"(?<!\\)\]\(", outside)
    assert "\n# head" not in outside
    row = next(line for line in card.splitlines() if line.startswith("| &lt;script"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 6  # a cell each: task, three splits, all


def test_secrets_in_a_spec_are_not_published() -> None:
    told = manifest()
    told["spec"]["generator"] = {"endpoint": {"url": "https://u:p4ssw0rd@host/v1"}}
    assert "p4ssw0rd" not in dataset_card(told)


def test_a_card_is_the_same_in_whatever_order_the_counts_stand() -> None:
    told = manifest()
    turned = {
        key: dict(reversed(value.items())) if key in ("sources", "splits", "dropped") else value
        for key, value in reversed(told.items())
    }
    assert dataset_card(turned) == dataset_card(told)


def test_what_does_not_add_up_gets_no_card() -> None:
    with pytest.raises(DataError, match="do not add up"):
        dataset_card(manifest(splits={"sft": {"samples": 131, "tasks": {}}}))


def test_a_fence_is_longer_than_what_it_holds() -> None:
    assert fenced("a ```` b", "x") == "`````x\na ```` b\n`````\n"
    assert plain("a\nb|c<d>`e`") == r"a b\|c&lt;d&gt;\`e\`"
    shared = {"a": 1}
    assert to_yaml([shared, shared]) == "- a: 1\n- a: 1\n"


def test_the_datasets_library_loads_the_folder_and_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "dataset"
    sizes = {"sft": 3, "rlvr": 2, "eval": 0}
    for split, n in sizes.items():
        samples = [
            Sample(
                id=f"{split}{i}",
                domain="general",
                task="T",
                source="own",
                question="1 + 1?",
                answer="2",
                answer_type="number",
                reward="exact",
            )
            for i in range(n)
        ]
        (folder / split).mkdir(parents=True)
        if samples:
            (folder / split / "00000.parquet").write_bytes(write_shard(samples[:1]))
            (folder / split / "00001.parquet").write_bytes(write_shard(samples[1:]))
    told = manifest(
        sources={"own": {"made": 5, "kept": 5}},
        dropped={},
        splits={split: {"samples": n, "tasks": {"T": n}} for split, n in sizes.items()},
    )
    (folder / CARD).write_text(dataset_card(told))
    (folder / "manifest.json").write_text("{}")
    whole = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {split: len(part) for split, part in whole.items()} == {"sft": 3, "rlvr": 2}
    assert whole["rlvr"][1]["id"] == "rlvr1"
    files = datasets.load_dataset(
        "parquet",
        data_files=str(folder / "sft" / "*.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert files["id"][:] == ["sft0", "sft1", "sft2"]
