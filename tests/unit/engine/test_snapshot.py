"""A state in host memory, laid out as the safetensors file that it becomes."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from m2r_train.engine.snapshot import Layout, Snapshot

STATE: dict[str, Tensor] = {
    "param/weight": torch.randn(3, 5, generator=torch.Generator().manual_seed(0)),
    "param/transposed": torch.arange(12.0).reshape(3, 4).T,
    "param/half": torch.tensor([1.5, -2.0, 3.0], dtype=torch.bfloat16),
    "flags": torch.tensor([True, False, True]),
    "adam_t/weight": torch.tensor([7], dtype=torch.int64),
    "scalar": torch.tensor(2.5, dtype=torch.float64),
    "nothing": torch.zeros(0, 4),
    "bytes": torch.arange(5, dtype=torch.uint8),
}


def test_what_was_taken_is_read_as_safetensors_bit_for_bit() -> None:
    found = load(bytes(Snapshot().take(STATE)))
    assert found.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_tensors_of_whole_cache_lines_lie_on_lines_whatever_else_there_is() -> None:
    """A copy between lines that do not match takes a third longer."""
    state = {f"a{i}": torch.ones(1, dtype=torch.int64) for i in range(3)}
    state |= {"m": torch.ones(64, 16), "v": torch.ones(16), "z": torch.ones(32, dtype=torch.int16)}
    layout = Layout.of(state)
    assert {layout.spans[name][0] % 64 for name in ("m", "v", "z")} == {0}
    for name, (start, end) in layout.spans.items():
        assert start % state[name].itemsize == 0
        assert end - start == state[name].nbytes


def test_what_was_taken_stays_while_training_goes_on() -> None:
    weight = torch.ones(4)
    taken = Snapshot().take({"w": weight})
    weight += 1
    assert load(bytes(taken))["w"].tolist() == [1.0] * 4
    assert taken.readonly


def test_memory_is_used_again_also_by_a_smaller_state() -> None:
    snapshot, state = Snapshot(), {"a": torch.ones(1000), "b": torch.ones(1000)}
    snapshot.take(state)
    memory = snapshot._memory
    assert load(bytes(snapshot.take({"b": torch.full((1000,), 2.0)})))["b"].sum() == 2000
    assert snapshot._memory is memory
    snapshot.take({"a": torch.ones(10_000)})
    assert snapshot._memory is not memory


def test_elements_that_the_format_does_not_have_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="safetensors cannot hold odd"):
        Snapshot().take({"odd": torch.zeros(1, dtype=torch.complex128)})
