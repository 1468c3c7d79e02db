"""The picture page: self-contained, safe, bounded, the same each time; or one clear line."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from unit.report.datasets import GOOD, manifest_of, picture, publish, sample
from unit.report.manifests import HOSTILE
from unit.report.test_report import Page

from m2r_train.api.errors import DataError
from m2r_train.core.records import Quality, Sample
from m2r_train.data.parquet import write_shard
from m2r_train.report.dataset import length_bins, render_dataset
from m2r_train.report.funnel import Manifest
from m2r_train.report.gallery import Bar, chain_card
from m2r_train.report.survey import survey
from m2r_train.report.thumbnails import evenly, strip
from m2r_train.reporting import write_report

MAX_PAGE = 15_000_000


def page_of(folder: Path, tmp_path: Path) -> str:
    page = tmp_path / "p.html"
    assert write_report([str(folder)], page, cache_dir=tmp_path / "c") == []
    return page.read_text()


def two_splits() -> dict[str, list[Sample]]:
    film = tuple(picture(i, (320, 240)) for i in range(20))
    return {
        "sft": [sample(i) for i in range(5)],
        "rlvr": [
            sample(10, task="Walk", images=(), video=film, chain=None, quality=None),
            sample(11, answer="5", answer_type="number"),
            sample(
                12, task="Pick", answer="B", answer_type="choice", options=("red", "blue"),
                chain=GOOD.replace("4}", "B}"), quality=None, difficulty=None,
            ),
        ],
    }  # fmt: skip


def test_everything_of_a_dataset_is_on_the_page(tmp_path: Path) -> None:
    html = page_of(publish(tmp_path / "data", two_splits()), tmp_path)
    page = Page(html)
    assert page.open == []
    for text in (
        "samples 8", "sft 5", "rlvr 3", "with a video 1",
        "9 = 8 kept + 1 dropped", "deduplicate 9 8 duplicate 1", "own dataset 9 9",
        "Sum 6 of 6", "Walk 1 of 1", "20 frames", "no chain", "answer 4",
        "✓ right 4 structure 5 load 4 verification 4 over the bar",
        "✗ wrong 4", "B structure", "by the built-in rules", "red blue", "difficulty 0.25",
        "input sources[0].dataset " + "a" * 64, "shards: 2", "seed 3",
        "Difficulty", "Length of chains", "Scores of structure", "Answers to choices",
    ):  # fmt: skip
        assert text in page.text, text
    images = page.with_attribute("src")
    assert len(images) == 8
    assert all(image.startswith("data:image/webp;base64,") for image in images)


def test_the_page_asks_for_nothing_and_is_a_function_of_the_dataset(tmp_path: Path) -> None:
    folder = publish(tmp_path / "data", two_splits())
    html = page_of(folder, tmp_path)
    assert html == page_of(publish(tmp_path / "again", two_splits()), tmp_path)
    page = Page(html)
    assert page.scripts == []
    links = [url for name in ("src", "href") for url in page.with_attribute(name)]
    assert all(link.startswith(("data:image/", "#")) for link in links)
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:;")
    assert not re.search(r"url\(|@import", html)


def test_text_of_users_stays_text(tmp_path: Path) -> None:
    evil = sample(
        1, id=HOSTILE, task=HOSTILE, source=HOSTILE, question=HOSTILE, answer=HOSTILE,
        answer_type="text", options=(HOSTILE,), unit=HOSTILE, chain=HOSTILE, images=(b"<svg>",),
    )  # fmt: skip
    folder = publish(
        tmp_path / "data",
        {"sft": [evil]},
        run=HOSTILE,
        sources={HOSTILE: {"made": 2, "kept": 2}},
        spec={"sources": [], HOSTILE: HOSTILE},
        inputs={HOSTILE: HOSTILE},
        prompts={HOSTILE: HOSTILE},
    )
    page = Page(page_of(folder, tmp_path))
    assert page.open == [] and page.scripts == []
    assert "alert(1)" in page.text
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "1 more pictures are not shown" in page.text


def test_a_page_of_large_pictures_and_texts_is_bounded(tmp_path: Path) -> None:
    noise = [picture(i, (2000, 1500)) for i in range(4)]
    own = [
        sample(
            i, task=f"T{i}", images=tuple(noise), video=tuple(noise) * 4,
            question="x" * 100_000, chain=GOOD + "y" * 100_000, quality=None,
        )
        for i in range(60)
    ]  # fmt: skip
    html = page_of(publish(tmp_path / "data", {"sft": own}), tmp_path)
    assert len(html.encode()) < MAX_PAGE
    page = Page(html)
    assert sum(tag == "article" for tag, _ in page.tags) == 48
    assert "12 more tasks are not shown" in page.text
    assert "96,0" in page.text and "more characters" in page.text


def test_shown_samples_are_chosen_by_seed_and_spread_over_tasks_and_splits(tmp_path: Path) -> None:
    splits = {
        split: [
            sample(i, task=task, images=(), id=f"{split}{task}{i}")
            for task, n in (("A", 40), ("B", 3))
            for i in range(n)
        ]
        for split in ("sft", "rlvr")
    }
    folder = publish(tmp_path / "data", splits)
    told = Manifest.parse(manifest_of(splits))
    shown = survey(folder, told, shown=8).shown
    assert Counter((split, s.task) for split, s in shown) == {
        ("sft", "A"): 2, ("rlvr", "A"): 2, ("sft", "B"): 2, ("rlvr", "B"): 2,
    }  # fmt: skip
    assert shown == survey(folder, told, shown=8).shown
    other = Manifest.parse(manifest_of(splits, seed=4))
    assert shown != survey(folder, other, shown=8).shown
    turned = {split: own[::-1] for split, own in splits.items()}
    again = survey(publish(tmp_path / "turned", turned), told, shown=8).shown
    assert {s.id for _, s in again} == {s.id for _, s in shown}


def test_counts_do_not_read_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import m2r_train.data.parquet as layout

    folder = publish(tmp_path / "data", two_splits())
    rows: list[dict[str, Any]] = []
    real = layout.text_rows

    def spied(*args: Any) -> list[dict[str, Any]]:
        rows.extend(real(*args))
        return real(*args)

    monkeypatch.setattr("m2r_train.report.survey.text_rows", spied)
    found = survey(folder, Manifest.parse(manifest_of(two_splits())))
    assert (found.samples, found.pictured, found.filmed, found.chains) == (8, 7, 1, 7)
    assert all(p == {"path": None} for row in rows for p in row["images"] + (row["video"] or []))


@pytest.mark.parametrize(
    ("chain", "verdict", "is_formatted"),
    [(GOOD, "right", True), ("<answer>\\boxed{4}</answer>", "right", False), ("", "wrong", False),
     (GOOD.replace("4}", "3}"), "wrong", True)],
)  # fmt: skip
def test_verdicts_of_a_chain(chain: str, verdict: str, is_formatted: bool) -> None:
    card = chain_card(sample(1, chain=chain, quality=None), Bar())
    assert card is not None
    assert (card.verdict, card.is_formatted, card.judged) == (verdict, is_formatted, False)


@pytest.mark.parametrize(
    ("scores", "passes"), [((5, 4, 3), True), ((5, 5, 2), False), ((4, 4, 3), False)]
)
def test_the_bar_is_that_of_the_run(scores: tuple[int, int, int], passes: bool) -> None:
    quality = Quality(structure=scores[0], load=scores[1], verification=scores[2])
    bar = Bar.of({"quality": {"minEach": 3, "minMean": 4.0}})
    card = chain_card(sample(1, quality=quality), bar)
    assert card is not None and card.judged and card.passes is passes
    loose = chain_card(
        sample(1, quality=quality), Bar.of({"quality": {"minEach": 1, "minMean": 1}})
    )
    assert loose is not None and loose.passes


@given(st.dictionaries(st.integers(0, 200_000), st.integers(1, 5), min_size=1, max_size=50))
def test_length_bins_hold_everything(lengths: dict[int, int]) -> None:
    bins, high = length_bins(lengths)
    assert sum(bins) == sum(lengths.values())
    assert 1 <= len(bins) <= 20
    inside = sum(n for length, n in lengths.items() if length < high)
    assert inside >= 0.99 * sum(lengths.values())


@given(st.integers(0, 500), st.integers(2, 20))
def test_frames_are_spread_from_first_to_last(count: int, wanted: int) -> None:
    places = evenly(count, wanted)
    assert len(places) == min(count, wanted) == len(set(places))
    assert places == sorted(places)
    assert not places or (places[0], places[-1]) == (0, count - 1)


def test_a_strip_shows_frames_in_rows_as_text_is_read() -> None:
    frames = [picture(30 * i, (320, 320)) for i in range(8)]
    uri = strip([*frames, b"no picture"][:8])
    shown = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")
    assert shown.size == (4 * 148 - 4, 2 * 148 - 4)
    reds = [shown.getpixel((72 + 148 * c, 72 + 148 * r))[0] for r in (0, 1) for c in range(4)]
    assert [round(red / 30) for red in reds] == list(range(8))
    assert strip([b"no picture"]) == ""


def broken(folder: Path, how: str) -> None:
    if how == "no end":
        (folder / "MANIFEST.json").unlink()
    elif how == "a file missing":
        (folder / "sft/00000.parquet").unlink()
    elif how == "a file changed":
        (folder / "sft/00000.parquet").write_bytes(write_shard([sample(1)]))
    elif how == "no manifest":
        publish_again(folder, {"sft/00000.parquet": write_shard([sample(1)])})
    elif how == "foreign":
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({"question": ["?"], "answer": ["!"]})
        pq.write_table(table, folder / "sft/00000.parquet")
        publish_again(folder)
    elif how == "no Parquet":
        (folder / "sft/00000.parquet").write_bytes(b"PAR1 not")
        publish_again(folder)
    elif how == "too few":
        (folder / "sft/00002.parquet").unlink()
        publish_again(folder)
    elif how == "bad manifest":
        (folder / "manifest.json").write_text("{}")
        publish_again(folder)


def publish_again(folder: Path, files: dict[str, bytes] | None = None) -> None:
    from m2r_train.store import LocalStore, publish_folder

    names = [p for p in folder.rglob("*") if p.is_file() and p.name != "MANIFEST.json"]
    files = files or {p.relative_to(folder).as_posix(): p.read_bytes() for p in names}
    publish_folder(LocalStore(folder.parent), folder.name, files)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("no end", r"not a complete dataset \(MANIFEST.json, which is written last"),
        ("a file missing", r"sft/00000.parquet: listed in MANIFEST.json but missing"),
        ("a file changed", r"sft/00000.parquet: does not match MANIFEST.json"),
        ("no manifest", r"data that no DataSynthesisJob made \(manifest.json is not there\)"),
        ("foreign", r"sft/00000.parquet: columns .*'question', 'answer'.* not those of a sample"),
        ("no Parquet", r"sft/00000.parquet: not a readable Parquet file"),
        ("too few", r"split 'sft' has 3 samples, manifest.json says 5"),
        ("bad manifest", r"not the manifest of a DataSynthesisJob's dataset"),
    ],
)
def test_what_is_no_whole_dataset_gets_one_line(tmp_path: Path, how: str, says: str) -> None:
    folder = publish(tmp_path / "data", {"sft": [sample(i) for i in range(5)]})
    broken(folder, how)
    with pytest.raises(DataError, match=says) as caught:
        page_of(folder, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "p.html").exists()


def test_users_own_data_and_two_datasets_get_one_line(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/train.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"data that no DataSynthesisJob made"):
        page_of(tmp_path / "own", tmp_path)
    folder = publish(tmp_path / "data", {"sft": [sample(1)]})
    with pytest.raises(DataError, match=r"is a dataset; a page shows one, so name it alone"):
        write_report([str(folder)] * 2, tmp_path / "p.html", cache_dir=tmp_path / "c")


def test_a_dataset_has_no_steps_to_show(tmp_path: Path) -> None:
    folder = publish(tmp_path / "data", {"sft": [sample(1)]})
    with pytest.raises(DataError, match=r"^--step 3: a dataset has no steps; leave it out$"):
        write_report([str(folder)], tmp_path / "p.html", cache_dir=tmp_path / "c", steps=[3])
    assert not (tmp_path / "p.html").exists()


def test_counts_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    folder = publish(tmp_path / "data", {"sft": [sample(1)]}, dropped={"duplicate": 3})
    with pytest.raises(DataError, match="do not add up"):
        render_dataset(folder)
