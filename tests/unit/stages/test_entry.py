"""What is done around a stage: long imports without the garbage collector."""

from __future__ import annotations

import gc

import pytest

from m2r_train.stages.entry import _no_collections


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_it_was_after_the_long_imports(enabled: bool) -> None:
    former = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(ImportError), _no_collections():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if former else gc.disable)()
