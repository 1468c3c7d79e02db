"""Any model by vLLM: says what transformers says, from seeds alone, and is closed by the next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from unit.rollout.talkers import reader, seer
from unit.rollout.test_chats import asked

from m2r_train.api.errors import ConfigError
from m2r_train.rollout.base import SamplingParams
from m2r_train.rollout.chats import Asked, InProcessChats
from m2r_train.rollout.vllm_chats import VllmChats

GREEDY = SamplingParams(samples=1, temperature=0.0, max_tokens=12)
SAMPLED = SamplingParams(samples=4, temperature=1.0, max_tokens=12)
TEXT = [asked("how many?"), asked("left right?", system=None), asked("so so?")]
SEEN = [asked("how many?", 1), asked("left?"), asked("right?", 2, 3), asked("right?", 3, 2)]


@pytest.fixture(scope="module", params=[(reader, TEXT), (seer, SEEN)], ids=["text", "pictures"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[VllmChats, InProcessChats, list[Asked]]]:
    make, questions = request.param
    folder = make(tmp_path_factory.mktemp("model"))
    chats = VllmChats(folder, torch.float32)
    yield chats, InProcessChats(folder, torch.float32, torch.device("cpu")), questions
    chats.close()


def test_greedy_replies_are_those_of_transformers(
    both: tuple[VllmChats, InProcessChats, list[Asked]],
) -> None:
    chats, plain, questions = both
    seeds = range(len(questions))
    told = list(chats.reply(questions, seeds, GREEDY))
    assert told == list(plain.reply(questions, seeds, GREEDY))
    assert len({reply for [reply] in told}) == len(questions)


def test_a_reply_ends_at_each_of_the_tokens_that_end_one(tmp_path: Path) -> None:
    folder = reader(tmp_path, stops=range(0, 250, 7))
    plain = InProcessChats(folder, torch.float32, torch.device("cpu"))
    chats = VllmChats(folder, torch.float32)
    told = list(chats.reply(TEXT, range(3), GREEDY))
    assert told == list(plain.reply(TEXT, range(3), GREEDY))
    chats.close()


def test_replies_are_functions_of_the_seed_and_the_number(
    both: tuple[VllmChats, InProcessChats, list[Asked]],
) -> None:
    chats, _, questions = both
    seeds = [100 * i for i in range(len(questions))]
    first = list(chats.reply(questions, seeds, SAMPLED))
    assert list(chats.reply(questions, seeds, SAMPLED)) == first
    assert list(chats.reply(questions[1:2], seeds[1:2], SAMPLED)) == first[1:2]
    assert [len(group) for group in first] == [4] * len(questions)
    assert len(set(first[0])) > 1
    assert list(chats.reply(questions[:1], [7], SAMPLED)) != first[:1]


def test_a_schema_binds_what_noise_writes(
    both: tuple[VllmChats, InProcessChats, list[Asked]],
) -> None:
    chats, _, questions = both
    schema = {
        "type": "object",
        "properties": {"score": {"type": "integer", "minimum": 0, "maximum": 5}},
        "required": ["score"],
        "additionalProperties": False,
    }
    params = SamplingParams(4, 1.0, 60, json.dumps(schema))
    for group in chats.reply(questions, range(len(questions)), params):
        for reply in group:
            assert json.loads(reply)["score"] in range(6)


def test_a_question_that_is_too_long_is_refused(
    both: tuple[VllmChats, InProcessChats, list[Asked]],
) -> None:
    chats, _, questions = both
    long = SamplingParams(samples=1, temperature=0.0, max_tokens=4)
    many = Asked(asked("how " * 3000).turns)
    with pytest.raises(ConfigError, match="vllm does not take a question"):
        list(chats.reply([questions[0], many], [1, 2], long))
    assert list(chats.reply(questions, range(len(questions)), GREEDY))


def test_a_model_that_vllm_does_not_know_is_refused(tmp_path: Path) -> None:
    folder = reader(tmp_path)
    config = folder / "config.json"
    config.write_text(config.read_text().replace("LlamaForCausalLM", "NobodysModel"))
    with pytest.raises(ConfigError, match="vllm does not take it"):
        VllmChats(folder, torch.float32)
