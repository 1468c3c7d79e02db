"""What training is fed with: every sample once an epoch, within the budget, purely."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from unit.model.tinies import picture, png, sample, small_policy

from m2r_train.api.errors import DataError
from m2r_train.core.records import Sample
from m2r_train.data.images import decode, upright_size
from m2r_train.model.policy import Policy
from m2r_train.stages.feeding import (
    Lesson,
    epoch_batches,
    lay_out,
    lessons,
    micro_batches,
    request,
    sft_batches,
)

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=60)
BUDGETS = st.integers(1, 200)


@given(lengths=LENGTHS, budget=BUDGETS, seed=st.integers(0, 2**31), epoch=st.integers(0, 9))
def test_an_epoch_shows_every_item_once_within_the_budget(
    lengths: list[int], budget: int, seed: int, epoch: int
) -> None:
    batches = epoch_batches(lengths, budget, seed, epoch)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    sizes = [sum(lengths[i] for i in batch) for batch in batches]
    for batch, size in zip(batches, sizes, strict=True):
        assert batch
        assert size <= budget or len(batch) == 1
    for size, following in zip(sizes, batches[1:], strict=False):
        assert size + lengths[following[0]] > budget, "there was room for one more"
    assert epoch_batches(lengths, budget, seed, epoch) == batches


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    orders = {
        tuple(i for batch in epoch_batches([1] * 40, 7, seed, epoch) for i in batch)
        for seed in (0, 1, 2)
        for epoch in (0, 1, 2)
    }
    assert len(orders) == 9
    assert tuple(range(40)) not in orders


@given(lengths=LENGTHS, budget=BUDGETS, steps=st.integers(1, 40), seed=st.integers(0, 99))
def test_steps_are_so_many_batches_epoch_after_epoch(
    lengths: list[int], budget: int, steps: int, seed: int
) -> None:
    batches = sft_batches(lengths, budget, epochs=1.0, steps=steps, seed=seed)
    assert len(batches) == steps
    left = list(batches)
    for epoch in range(steps):
        own = epoch_batches(lengths, budget, seed, epoch)
        assert left[: len(own)] == own[: len(left)]
        left = left[len(own) :]
    assert not left


@given(lengths=LENGTHS, budget=BUDGETS, epochs=st.integers(1, 4), seed=st.integers(0, 99))
def test_whole_epochs_show_every_item_as_often(
    lengths: list[int], budget: int, epochs: int, seed: int
) -> None:
    """Even where two orders of the same items need different numbers of batches."""
    batches = sft_batches(lengths, budget, epochs=float(epochs), steps=None, seed=seed)
    seen = [i for batch in batches for i in batch]
    assert sorted(seen) == sorted(list(range(len(lengths))) * epochs)


def test_epochs_do_need_different_numbers_of_batches() -> None:
    """So the test above has something to catch."""
    lengths = [1, 9, 5, 6, 4, 5, 2, 8, 3, 7]
    assert len({len(epoch_batches(lengths, 10, 0, epoch)) for epoch in range(9)}) > 1


@pytest.mark.parametrize(("epochs", "expected"), [(0.5, 5), (0.001, 1), (1.5, 15), (2.26, 23)])
def test_a_part_of_an_epoch_is_that_share_of_its_batches(epochs: float, expected: int) -> None:
    batches = sft_batches([1] * 20, 2, epochs=epochs, steps=None, seed=3)
    assert len(batches) == expected
    assert batches == sft_batches([1] * 20, 2, epochs=9.0, steps=None, seed=3)[:expected]


def test_no_items_are_an_error_and_not_an_endless_loop() -> None:
    with pytest.raises(ValueError, match="no items"):
        sft_batches([], 10, epochs=1.0, steps=5, seed=0)


@given(lengths=st.lists(st.integers(1, 50), max_size=40), budget=BUDGETS)
def test_micro_batches_hold_every_row_within_the_budget_and_waste_no_bin(
    lengths: list[int], budget: int
) -> None:
    bins = micro_batches(lengths, budget)
    assert sorted(i for own in bins for i in own) == list(range(len(lengths)))
    sums = [sum(lengths[i] for i in own) for own in bins]
    for own, used in zip(bins, sums, strict=True):
        assert used <= budget or len(own) == 1
        assert [lengths[i] for i in own] == sorted((lengths[i] for i in own), reverse=True)
    fitting = [used for used in sums if used <= budget]
    for one, other in pairwise(sorted(fitting)):
        assert one + other > budget, "two bins would go into one"


def test_a_row_goes_where_it_fits_best() -> None:
    assert micro_batches([6, 5, 4, 3, 2], 10) == [[0, 2], [1, 3, 4]]
    assert micro_batches([3, 12, 3], 10) == [[1], [0, 2]]
    assert micro_batches([], 10) == []


# lessons


@pytest.fixture(scope="module")
def policy() -> Policy:
    return small_policy()


def chained(number: int, image: bytes | None, chain: str | None = "") -> Sample:
    said = (
        f"<think>so {number}</think><answer>\\boxed{{{number}}}</answer>" if chain == "" else chain
    )
    images = () if image is None else (image,)
    return sample(f"how many {number}?", id=f"q{number}", chain=said, images=images)


def said_by(policy: Policy, lesson: Lesson) -> list[tuple[str, str]]:
    """(context, scored) text of each branch."""
    return [
        (
            policy.tokenizer.decode(b.tokens[: b.scored_from]),
            policy.tokenizer.decode(b.tokens[b.scored_from :]),
        )
        for b in lesson.row.branches
    ]


def test_questions_about_one_picture_share_a_row(policy: Policy) -> None:
    a, b = png(picture(32, 16, 1)), png(picture(32, 16, 2))
    images = [a, b, a, None, a, b, a, None, a]
    samples = [chained(n, image) for n, image in enumerate(images)]
    course = lessons(policy, samples, most=4)
    numbers = [
        [int(context.split("?")[0].split()[-1]) for context, _ in said_by(policy, lesson)]
        for lesson in course
    ]
    assert numbers == [[0, 2, 4, 6], [1, 5], [3], [7], [8]]
    assert [lesson.images for lesson in course] == [(a,), (b,), (), (), (a,)]


def test_only_the_assistants_turn_is_scored(policy: Policy) -> None:
    image = png(picture(32, 16))
    samples = [chained(0, image), chained(1, None), chained(2, image), chained(3, image)]
    course = lessons(policy, samples)
    seen = [pair for lesson in course for pair in said_by(policy, lesson)]
    by_question = dict(seen)
    for s in samples:
        assert by_question[f"{s.question}<|im_start|>"] == f"{s.chain}<|im_end|>"
    assert len(seen) == len(samples)


def test_a_row_is_the_prompts_of_its_samples(policy: Policy) -> None:
    """Prefix and context together are the prompt that rollouts will see, token for token."""
    image = png(picture(37, 50))
    samples = [chained(n, image) for n in range(3)]
    (lesson,) = lessons(policy, samples)
    for prompt, branch in zip(lay_out(policy, samples), lesson.row.branches, strict=True):
        assert lesson.row.prefix + branch.tokens[: branch.scored_from] == prompt.tokens
    assert lesson.row.prefix[-1] == policy.vision_end
    assert lesson.row.positions.shape == (3, len(lesson.row.prefix))


def test_pictures_of_one_size_are_told_apart_and_order_counts(policy: Policy) -> None:
    a, b = png(picture(16, 16, 1)), png(picture(16, 16, 2))
    pairs = [(a, b), (b, a), (a, b), (a,), (a, a)]
    samples = [chained(n, None).with_(images=images) for n, images in enumerate(pairs)]
    course = lessons(policy, samples)
    assert [lesson.images for lesson in course] == [(a, b), (b, a), (a,), (a, a)]
    assert [len(lesson.row.branches) for lesson in course] == [2, 1, 1, 1]


def test_a_sample_without_a_chain_is_our_mistake(policy: Policy) -> None:
    with pytest.raises(AssertionError, match="q4 has no chain"):
        lessons(policy, [chained(4, None, chain=None)])


def film(*frames: tuple[int, int]) -> tuple[bytes, ...]:
    return tuple(png(picture(*size, seed)) for seed, size in enumerate(frames))


def test_frames_of_different_sizes_are_refused_by_name(policy: Policy) -> None:
    video = film((16, 16), (16, 16), (16, 24))
    with pytest.raises(
        DataError, match="'film': video: frame 3 is 16 x 24 pixels, the first is 16"
    ):
        lay_out(policy, [sample(id="film", video=video)])


def test_a_video_is_shown_after_the_pictures(policy: Policy) -> None:
    asked = sample(images=(png(picture(32, 16)),), video=film((24, 16), (24, 16), (24, 16)))
    given = request(lay_out(policy, [asked])[0], asked)
    still, moving = given.images
    assert still.size == (32, 16)  # type: ignore[union-attr]
    assert [f.size for f in moving.frames] == [(24, 16)] * 3  # type: ignore[union-attr]
    assert given.prompt.grids == ((1, 2, 4), (2, 2, 3))
    tokens = given.prompt.tokens
    assert tokens.index(policy.image_token) < tokens.index(policy.video_token)
    visual = tokens.count(policy.image_token) + tokens.count(policy.video_token)
    assert len(policy.see(given.images)) == visual


def test_questions_about_one_video_share_a_row(policy: Policy) -> None:
    one, other = film((16, 16), (16, 16)), film((16, 16), (16, 16))[::-1]
    videos = [one, other, one, None, one]
    samples = [chained(n, None).with_(video=v) for n, v in enumerate(videos)]
    course = lessons(policy, samples)
    assert [len(lesson.row.branches) for lesson in course] == [3, 1, 1]
    assert [lesson.video for lesson in course] == [one, other, None]
    prompt = lay_out(policy, samples[:1])[0]
    first = course[0].row
    assert first.prefix + first.branches[0].tokens[: first.branches[0].scored_from] == prompt.tokens


def test_prompts_of_many_samples_keep_their_order(policy: Policy) -> None:
    """More than one chunk goes to the tokenizer."""
    samples = [sample(f"how many {n}?", images=()) for n in range(1100)]
    prompts = lay_out(policy, samples)
    assert len(prompts) == 1100
    for n in (0, 511, 512, 1099):
        assert f"how many {n}?" in policy.decode(prompts[n].tokens)


# sizes


def encoded(width: int, height: int, kind: str, orientation: int) -> bytes:
    """A picture file with an EXIF orientation."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    buffer = io.BytesIO()
    picture(width, height).save(buffer, kind, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_in_the_header_is_that_of_the_upright_picture(kind: str, orientation: int) -> None:
    data = encoded(40, 24, kind, orientation)
    assert upright_size(data) == decode(data).size
    assert upright_size(data) == ((24, 40) if orientation >= 5 else (40, 24))


def test_a_turned_photograph_is_laid_out_as_it_is_seen(policy: Policy) -> None:
    photo = sample(images=(encoded(48, 16, "JPEG", 6),))
    asked = request(lay_out(policy, [photo])[0], photo)
    assert asked.prompt.grids == ((1, 6, 2),)
    assert asked.images[0].size == (16, 48)
    assert len(policy.see(asked.images)) == asked.prompt.tokens.count(policy.image_token)
