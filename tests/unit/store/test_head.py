"""HEAD and other sealed documents: what was written is read, anything else is noticed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2r_train.store._head import Damaged, Head, Ref, folder_of, parse_folder, seal, unseal

NUMBERS = st.integers(0, 10**9)
REFS = st.builds(
    lambda e, s: Ref(e, s, folder_of(e, s) + "MANIFEST.json", f"{e:x}"), NUMBERS, NUMBERS
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
HEADS = st.builds(
    Head,
    attempt=NUMBERS,
    epoch=NUMBERS,
    writer=st.uuids().map(str),
    chain=st.lists(REFS, max_size=3).map(tuple),
    bad=st.lists(st.just("checkpoints/e1-s1/"), max_size=1).map(tuple),
    done=st.booleans(),
    result=st.none() | st.dictionaries(st.text(), JSON, max_size=3),
)


@given(HEADS)
def test_a_head_survives_encoding(head: Head) -> None:
    assert Head.decode(head.encode()) == head


@given(HEADS, st.data())
def test_any_flipped_bit_of_a_head_is_noticed(head: Head, data: st.DataObject) -> None:
    raw = bytearray(head.encode().rstrip())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        changed = Head.decode(bytes(raw))
    except Damaged:
        return
    assert changed == head  # a bit may turn one spelling of the same JSON into another


@given(HEADS, st.integers(0, 100))
def test_a_torn_head_is_noticed(head: Head, missing: int) -> None:
    raw = head.encode().rstrip()
    with pytest.raises(Damaged):
        Head.decode(raw[: max(0, len(raw) - 1 - missing)])


def test_a_head_has_the_fields_of_the_contract() -> None:
    ref = Ref(3, 40, "checkpoints/e3-s40/MANIFEST.json", "d1")
    fields = json.loads(Head(attempt=2, epoch=3, writer="w", chain=(ref,)).encode())
    contract = {"attempt": 2, "epoch": 3, "step": 40, "manifest": ref.manifest, "digest": "d1"}
    assert contract.items() <= fields.items()


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{}", b'{"check": 1}', b"\xff", b"7"])
def test_what_is_no_sealed_document_is_damaged(data: bytes) -> None:
    with pytest.raises(Damaged):
        unseal(data)


def test_a_sealed_document_of_another_kind_is_no_head() -> None:
    with pytest.raises(Damaged, match="no HEAD"):
        Head.decode(seal({"epoch": 1}))


@given(NUMBERS, NUMBERS)
def test_a_folder_name_is_read_back(epoch: int, step: int) -> None:
    assert parse_folder(folder_of(epoch, step) + "a/b") == (epoch, step)


@pytest.mark.parametrize(
    "key",
    [
        "checkpoints/e1-s2",
        "checkpoints/best/x",
        "checkpoints/e1-s2.old/x",
        "e1-s2/x",
        "model/e1-s1/x",
    ],
)
def test_a_foreign_name_is_no_checkpoint(key: str) -> None:
    assert parse_folder(key) is None
