"""Splits are disjoint, share no scene, and depend on nothing but ids, scenes and the seed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2r_train.api.errors import DataError
from m2r_train.core.records import Sample
from m2r_train.data.roster import Roster, content_key
from m2r_train.data.splits import deal_by_weight, deduplicate, route


def sample(name: str, *pictures: str, **changes: object) -> Sample:
    plain = Sample(
        id=name,
        domain="general",
        task="t",
        source="s",
        question=f"q {name}",
        answer="1",
        answer_type="number",
        reward="exact",
        images=tuple(picture.encode() for picture in pictures),
    )
    return plain.with_(**changes)


def ids(split: list[Sample]) -> list[str]:
    return [one.id for one in split]


scenes = st.lists(st.integers(1, 5), min_size=1, max_size=12).map(
    lambda sizes: [
        sample(f"{scene}.{n}", f"scene {scene}")
        for scene, size in enumerate(sizes)
        for n in range(size)
    ]
)


@settings(deadline=None)
@given(scenes, st.integers(0, 99), st.randoms(use_true_random=False))
def test_splits_are_disjoint_share_no_scene_and_ignore_the_order_of_samples(samples, seed, random):
    n = len(samples) // 4
    outputs = {"sft": n, "rlvr": n, "eval": 1}
    try:
        result = route(samples, outputs, seed)
    except DataError:
        return
    assert {split: len(chosen) for split, chosen in result.items()} == outputs
    taken = [one.id for chosen in result.values() for one in chosen]
    assert len(taken) == len(set(taken))
    of_scene: dict[bytes, set[str]] = {}
    for split, chosen in result.items():
        for one in chosen:
            of_scene.setdefault(one.images[0], set()).add(split)
    assert all(len(splits) == 1 for splits in of_scene.values())
    shuffled = list(samples)
    random.shuffle(shuffled)
    assert route(shuffled, outputs, seed) == result


@given(st.integers(1, 60), st.integers(0, 30), st.integers(0, 30))
def test_samples_without_pictures_can_be_dealt_to_the_last_one(n, a, b):
    samples = [sample(str(number)) for number in range(n)]
    if a + b <= n:
        result = route(samples, {"a": a, "b": b}, seed=0)
        assert (len(result["a"]), len(result["b"])) == (a, b)
    else:
        with pytest.raises(DataError, match=rf"for {a + b} asked in all\); add data"):
            route(samples, {"a": a, "b": b}, seed=0)


def test_another_seed_deals_otherwise_and_the_same_seed_the_same():
    samples = [sample(str(number)) for number in range(50)]
    first = route(samples, {"a": 25}, seed=1)
    assert route(samples, {"a": 25}, seed=1) == first
    assert set(ids(route(samples, {"a": 25}, seed=2)["a"])) != set(ids(first["a"]))


def test_a_split_is_not_in_order_of_ids():
    samples = [sample(f"{number:03d}") for number in range(50)]
    chosen = ids(route(samples, {"a": 50}, seed=0)["a"])
    assert sorted(chosen) == ids(samples)
    assert chosen != ids(samples)


def test_scenes_joined_through_a_common_picture_or_frame_are_one_scene():
    chain = [
        sample("1", "a"),
        sample("2", "a", "b"),
        sample("3", video=(b"b", b"c")),
        sample("4", "c"),
    ]
    with pytest.raises(DataError, match=r"\(of 4 in 1 scenes"):
        route(chain, {"train": 2, "eval": 1}, seed=0)
    assert len(route(chain, {"train": 4}, seed=0)["train"]) == 4


def test_the_rest_of_a_scene_that_was_cut_is_given_to_nobody():
    samples = [sample(f"{s}.{n}", f"scene {s}") for s in range(2) for n in range(4)]
    result = route(samples, {"a": 3, "b": 3}, seed=0)
    of_a, of_b = ({one.images for one in result[split]} for split in ("a", "b"))
    assert len(of_a) == len(of_b) == 1
    assert of_a != of_b
    with pytest.raises(
        DataError, match=r"outputs\.[ab]: [35] samples asked for, [04] can be given"
    ):
        route(samples, {"a": 3, "b": 5}, seed=0)


@pytest.mark.parametrize("seed", range(8))
def test_a_tight_fit_is_found_by_placing_large_scenes_first(seed):
    samples = [sample(f"l{n}", "large") for n in range(3)] + [sample("s", "small")]
    result = route(samples, {"a": 1, "b": 3}, seed=seed)
    assert ids(result["a"]) == ["s"]
    assert {one.id for one in result["b"]} == {"l0", "l1", "l2"}


@pytest.mark.parametrize("seed", range(8))
def test_only_eligible_samples_go_to_a_split_and_the_choosy_split_chooses_first(seed):
    samples = [sample(str(n), chain="c" if n < 5 else None) for n in range(10)]
    result = route(
        samples,
        {"eval": 5, "sft": 5},
        seed=seed,
        eligible=lambda one, split: split != "sft" or one.chain is not None,
    )
    assert {one.chain for one in result["sft"]} == {"c"}
    assert len(result["eval"]) == 5


def weighed(
    samples: list[Sample],
    outputs: dict[str, int],
    weights: dict[str, float],
    feeding: dict[str, list[str]] | None = None,
) -> dict[str, list[str]]:
    """Sources of the samples that each split is dealt."""
    roster = Roster()
    for one in samples:
        roster.add(one, sound=True)
    fed = feeding or {split: list(weights) for split in outputs}
    dealt = deal_by_weight(
        roster,
        outputs,
        7,
        eligible={split: roster.sources.among(fed[split]) for split in outputs},
        weights=weights,
        feeding=fed,
    )
    assert len({row for rows in dealt.values() for row in rows}) == sum(map(len, dealt.values()))
    return {split: [samples[row].source for row in rows] for split, rows in dealt.items()}


MIXED = [
    sample(f"{source}{n}", f"{source} {n // 2}", source=source)
    for source in "ab"
    for n in range(40)
]


def test_sources_give_their_shares_of_each_split_by_weight() -> None:
    dealt = weighed(MIXED, {"rlvr": 20, "eval": 10}, {"a": 3.0, "b": 1.0})
    assert {split: (own.count("a"), own.count("b")) for split, own in dealt.items()} == {
        "rlvr": (15, 5), "eval": (8, 2),
    }  # fmt: skip
    assert dealt["rlvr"] != sorted(dealt["rlvr"]), "in seeded order, not by source"
    none = weighed(MIXED, {"rlvr": 9}, {"a": 0.0, "b": 0.5})
    assert none == {"rlvr": ["b"] * 9}


def test_a_source_that_may_not_feed_a_split_has_no_share_of_it() -> None:
    feeding = {"rlvr": ["a", "b"], "eval": ["b"]}
    dealt = weighed(MIXED, {"rlvr": 8, "eval": 6}, {"a": 3.0, "b": 1.0}, feeding)
    assert (dealt["rlvr"].count("a"), dealt["eval"]) == (6, ["b"] * 6)


def test_equal_weights_are_none() -> None:
    few = [one for one in MIXED if one.source == "a" or one.id in ("b0", "b1")]
    dealt = weighed(few, {"rlvr": 40}, {"a": 0.3, "b": 0.3})
    assert dealt["rlvr"].count("b") <= 2, "of two a half cannot be 20"


def test_what_weights_cannot_do_is_one_line() -> None:
    few = [one for one in MIXED if one.source == "a" or one.id in ("b0", "b1")]
    line = r"^source b, by its weight: spec.outputs.rlvr: 5 samples asked for, 2 can be given"
    with pytest.raises(DataError, match=line):
        weighed(few, {"rlvr": 20}, {"a": 3.0, "b": 1.0})
    with pytest.raises(DataError, match=r"^spec.outputs.rlvr: all sources that may feed it have w"):
        weighed(MIXED, {"rlvr": 2}, {"a": 1.0, "b": 0.0}, {"rlvr": ["b"]})
    shared = [sample(f"{s}{n}", "one picture", source=s) for s in "ab" for n in range(4)]
    feeding = {"rlvr": ["a"], "eval": ["b"]}
    with pytest.raises(DataError, match=r"^spec.sources: two sources share pictures, of which"):
        weighed(shared, {"rlvr": 2, "eval": 2}, {"a": 1.0, "b": 2.0}, feeding)


def test_the_error_names_the_split_that_is_short_and_both_figures():
    samples = [sample(str(n)) for n in range(3)]
    with pytest.raises(DataError) as caught:
        route(samples, {"sft": 4}, seed=0)
    assert str(caught.value) == (
        "spec.outputs.sft: 4 samples asked for, 3 can be given (of 3 in 3 scenes, which splits "
        "never "
        "share, for 4 asked in all); add data or ask for fewer"
    )


def test_an_id_used_by_two_sources_is_an_error_naming_both():
    samples = [sample("1", source="maths"), sample("1", source="physics")]
    with pytest.raises(
        DataError, match="sources maths and physics: both have a sample with id '1'"
    ):
        route(samples, {"a": 1}, seed=0)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"question": "  HOW\n many? "}, True),
        ({"id": "other", "source": "x", "task": "y", "chain": "z"}, True),
        ({"answer": "2"}, True),
        ({"options": ("y", "x")}, True),
        ({"question": "how many"}, False),
        ({"options": ("x", "z")}, False),
        ({"options": None}, False),
        ({"images": (b"other",)}, False),
        ({"images": (b"a", b"a")}, False),
        ({"images": (), "video": (b"a",)}, False),
    ],
)
def test_the_content_key_is_what_is_asked(changes, same):
    base = sample("1", "a", question="How many?", options=("x", "y"))
    assert (content_key(base) == content_key(base.with_(**changes))) is same


def test_composed_and_decomposed_letters_are_equal_but_a_square_is_not_a_two():
    key = lambda text: content_key(sample("1", question=text))  # noqa: E731
    assert key("caf\u00e9") == key("cafe\u0301")
    assert key("x² = 4") != key("x2 = 4")


def test_duplicates_keep_the_first_and_conflicts_keep_none():
    rows = [
        sample("1", question="q"),
        sample("2", question="other"),
        sample("3", question="Q "),
        sample("4", question="q", answer="1.0"),
        sample("5", question="disputed", answer="1"),
        sample("6", question="disputed", answer="2"),
    ]
    result = deduplicate(rows)
    assert ids(result.kept) == ["1", "2"]
    assert ids(result.duplicates) == ["3", "4"]
    assert ids(result.conflicting) == ["5", "6"]


def test_shuffled_options_agree_by_the_text_and_not_the_letter():
    def choice(name: str, answer: str, *options: str) -> Sample:
        return sample(name, question="q", answer=answer, answer_type="choice", options=options)

    agreeing = [choice("1", "A", "cat", "dog"), choice("2", "B", "dog", "cat")]
    assert ids(deduplicate(agreeing).duplicates) == ["2"]
    disagreeing = [choice("1", "A", "cat", "dog"), choice("2", "A", "dog", "cat")]
    assert ids(deduplicate(disagreeing).conflicting) == ["1", "2"]
