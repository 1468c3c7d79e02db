"""What stays as it is: names of parts as other trainers use them, or patterns of parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from unit.model.tinies import small_policy

from m2r_train.api.errors import ConfigError
from m2r_train.model.freezing import frozen_names

NAMES = [name for name, _ in small_policy().module.named_parameters()]
TOWER = {n for n in NAMES if n.startswith("model.visual.")}
MERGER = {n for n in NAMES if n.startswith("model.visual.merger.")}
LANGUAGE = {n for n in NAMES if n.startswith("model.language_model.")}
EMBEDDINGS = {"model.language_model.embed_tokens.weight"}


def frozen(*freeze: str, vision: bool = False, names: list[str] = NAMES) -> set[str]:
    return set(frozen_names(names, freeze, freeze_vision=vision, where="spec.training.freeze"))


def test_parts_are_what_their_names_say() -> None:
    assert set(NAMES) == TOWER | LANGUAGE
    assert MERGER < TOWER
    assert frozen() == set()
    assert frozen(vision=True) == TOWER
    assert frozen("Vision") == TOWER - MERGER
    assert frozen("Projector") == MERGER
    assert frozen("Vision", "Projector") == TOWER
    assert frozen("Language") == LANGUAGE
    assert frozen("Embeddings") == EMBEDDINGS


def test_an_untied_head_is_part_of_the_language_model_and_a_name_of_its_own() -> None:
    names = [*NAMES, "lm_head.weight"]
    assert frozen("Head", names=names) == {"lm_head.weight"}
    assert frozen("Language", names=names) == LANGUAGE | {"lm_head.weight"}


def test_patterns_choose_parameters() -> None:
    chosen = frozen("model.language_model.layers.0.*")
    assert chosen and all(".layers.0." in n for n in chosen)
    assert frozen("*.bias") == {n for n in NAMES if n.endswith(".bias")}


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (("Vision", "layers.0"), r"spec.training.freeze\[1\]: 'layers.0' fits no parameter; write"),
        (("vision",), r"spec.training.freeze\[0\]: 'vision' fits no parameter"),
        (("Head",), r"spec.training.freeze\[0\]: the head of this model is its embeddings"),
        (("*",), "spec.training.freeze: leaves nothing to learn"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(freeze: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        frozen(*freeze)


def test_the_parts_hold_every_parameter_of_the_model() -> None:
    with pytest.raises(ConfigError, match="nothing to learn"):
        frozen("Vision", "Projector", "Language")
    module: nn.Module = small_policy().module
    assert sum(p.numel() for p in module.parameters()) > 0
    assert all(p.dtype == torch.float32 for p in module.parameters())
