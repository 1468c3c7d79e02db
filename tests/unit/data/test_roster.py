"""The columns that stand for samples say the same as the samples themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from m2r_train.core.records import Sample
from m2r_train.data.roster import Roster, content_key, repeats

PICTURES = [b"a", b"b", b"c", b"d"]


def sample(number: int, asked: int, answer: int, shown: list[int]) -> Sample:
    return Sample(
        id=f"{number * 7919 % 101:03d}",
        domain="general",
        task="t",
        source=f"s{number % 3}",
        question=f"q{asked}",
        answer=str(answer),
        answer_type="number",
        reward="exact",
        images=tuple(PICTURES[i] for i in shown),
    )


samples = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 1), st.lists(st.integers(0, 3), max_size=2)),
    max_size=20,
).map(lambda rows: [sample(n, *row) for n, row in enumerate(rows)])


def rostered(own: list[Sample]) -> Roster:
    roster = Roster()
    for one in own:
        roster.add(one, sound=one.answer == "1")
    return roster


def together(numbers: list[int]) -> list[list[int]]:
    """The rows of each number, whatever the numbers are."""
    return sorted([r for r, n in enumerate(numbers) if n == one] for one in set(numbers))


@given(samples)
def test_repeats_are_those_found_one_by_one(own: list[Sample]) -> None:
    groups: dict[bytes, list[int]] = {}
    for row, one in enumerate(own):
        groups.setdefault(content_key(one), []).append(row)
    agreed = {k: len({own[r].answer for r in rows}) == 1 for k, rows in groups.items()}
    found = repeats(rostered(own))
    assert found.kept.tolist() == [rows[0] for k, rows in groups.items() if agreed[k]]
    assert found.duplicates.tolist() == [
        r for k, rows in groups.items() if agreed[k] for r in rows[1:]
    ]
    assert found.conflicting.tolist() == [
        r for k, rows in groups.items() if not agreed[k] for r in rows
    ]


@given(samples)
def test_scenes_are_the_samples_connected_by_pictures(own: list[Sample]) -> None:
    names = list(range(len(own)))
    changed = True
    while changed:
        changed = False
        for a, one in enumerate(own):
            for b, other in enumerate(own):
                if set(one.images) & set(other.images) and names[a] != names[b]:
                    names[a] = names[b] = min(names[a], names[b])
                    changed = True
    found = rostered(own).scenes().tolist()
    pairs = [(a, b) for a in range(len(own)) for b in range(len(own))]
    assert all((found[a] == found[b]) == (names[a] == names[b]) for a, b in pairs)
    assert set(found) == set(range(len(set(names))))


@given(samples, st.data())
def test_picked_rows_are_the_roster_of_those_samples(
    own: list[Sample], data: st.DataObject
) -> None:
    rows = data.draw(st.permutations(range(len(own))))[: len(own) // 2 + 1] if own else []
    picked, alone = rostered(own).pick(rows), rostered([own[r] for r in rows])
    assert list(picked.ids) == list(alone.ids)
    assert list(picked.sources) == list(alone.sources)
    assert picked.sound == alone.sound
    assert together(picked.scenes().tolist()) == together(alone.scenes().tolist())
    found, told = repeats(rostered(own), rows), repeats(alone)
    for name in ("kept", "duplicates", "conflicting"):
        assert getattr(found, name).tolist() == getattr(told, name).tolist()
