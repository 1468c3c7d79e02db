"""Models that only speak: any folder that transformers knows, by its own chat template."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from unit.model.tinies import picture, sample
from unit.rollout.talkers import NO_SYSTEM, reader, seer

from m2r_train.api.errors import ConfigError
from m2r_train.model.prompts import messages
from m2r_train.rollout.base import SamplingParams
from m2r_train.rollout.chats import Asked, ChatFolder, InProcessChats

GREEDY = SamplingParams(samples=3, temperature=0.0, max_tokens=6)
SAMPLED = SamplingParams(samples=4, temperature=1.0, max_tokens=6)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> InProcessChats:
    return chats(reader(tmp_path_factory.mktemp("text")))


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> InProcessChats:
    return chats(seer(tmp_path_factory.mktemp("eyes")))


def chats(folder: Path) -> InProcessChats:
    return InProcessChats(folder, torch.float32, torch.device("cpu"))


def asked(question: str, *pictures: int, system: str | None = "so") -> Asked:
    shown = tuple(picture(32, 32, seed) for seed in pictures)
    return Asked(messages(sample(question, images=(b"",) * len(shown)), (), system), shown)


def greedy(model: InProcessChats, question: str) -> list[int]:
    """The likeliest tokens behind a question, whatever they are."""
    prompt = f"<|im_start|>system: so<|im_end|><|im_start|>user: {question}<|im_end|><|im_start|>"
    tokens = model.folder.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    ids, start = tokens["input_ids"], tokens["input_ids"].shape[1]
    module = AutoModelForCausalLM.from_pretrained(model.folder.path).eval()
    for _ in range(GREEDY.max_tokens):
        with torch.no_grad():
            following = module(ids).logits[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, following], dim=1)
    drawn: list[int] = ids[0, start:].tolist()
    return drawn


def test_a_greedy_reply_is_that_of_the_model_by_its_own_template(text: InProcessChats) -> None:
    [[told]] = text.reply([asked("how many?")], [1], GREEDY)
    tokens = greedy(text, "how many?")
    assert told and text.folder.stop_tokens[0] not in tokens
    assert told == text.folder.tokenizer.decode(tokens)


def test_a_reply_ends_at_each_of_the_tokens_that_end_one(
    text: InProcessChats, tmp_path: Path
) -> None:
    """As a Llama 3 does, whose tokenizer knows one of its three."""
    tokens = greedy(text, "how many?")
    third = tokens[2]
    assert third not in tokens[:2]
    ends = chats(reader(tmp_path, stops=[third]))
    assert ends.folder.stop_tokens == (text.folder.stop_tokens[0], third)
    [[short]] = ends.reply([asked("how many?")], [1], GREEDY)
    assert short == text.folder.tokenizer.decode(tokens[:2])


@pytest.mark.parametrize("which", ["text", "eyes"])
def test_replies_are_functions_of_the_seed_and_the_number(
    which: str, request: pytest.FixtureRequest
) -> None:
    model: InProcessChats = request.getfixturevalue(which)
    shown = (1,) if which == "eyes" else ()
    two = [asked("how many?", *shown), asked("left?", *shown)]
    first = list(model.reply(two, [5, 6], SAMPLED))
    assert list(model.reply(two[1:], [6], SAMPLED)) == first[1:]
    assert [len(group) for group in first] == [4, 4]
    assert len(set(first[0])) > 1
    assert list(model.reply(two[:1], [7], SAMPLED)) != first[:1]


def test_first_tokens_are_drawn_from_the_models_distribution(text: InProcessChats) -> None:
    params = SamplingParams(samples=400, temperature=0.7, max_tokens=1)
    [drawn] = text.reply([asked("how many?")], [3], params)
    inputs = text.folder.processor.apply_chat_template(
        text.folder.written(asked("how many?")), add_generation_prompt=True, tokenize=True,
        return_dict=True, return_tensors="pt",
    )  # fmt: skip
    with torch.no_grad():
        p = (text._module(**inputs).logits[0, -1] / params.temperature).softmax(-1)
    word, times = Counter(drawn).most_common(1)[0]
    decoded = text.folder.tokenizer.batch_decode(
        torch.arange(len(p))[:, None], skip_special_tokens=True
    )
    expected = float(sum(p[i] for i, one in enumerate(decoded) if one == word))
    assert abs(times / 400 - expected) < 4 * (expected * (1 - expected) / 400) ** 0.5


def test_pictures_are_seen_and_their_order_counts(eyes: InProcessChats) -> None:
    long = SamplingParams(samples=1, temperature=0.0, max_tokens=12)
    told = [
        next(eyes.reply([asked("how many?", *pictures)], [1], long))[0]
        for pictures in ((1, 2), (2, 1), (3, 4))
    ]
    assert len(set(told)) == 3


def test_pictures_for_a_model_without_eyes_are_refused(text: InProcessChats) -> None:
    with pytest.raises(ConfigError, match="has no image processor; name a model that sees"):
        list(text.reply([asked("how many?", 1)], [1], GREEDY))


def test_a_question_that_is_too_long_is_refused(text: InProcessChats) -> None:
    params = SamplingParams(samples=1, temperature=0.0, max_tokens=511)
    with pytest.raises(ConfigError, match=r"make \d+ tokens, and it takes 512"):
        list(text.reply([asked("how many?")], [1], params))


def test_a_template_that_refuses_a_system_turn_gets_none(tmp_path: Path) -> None:
    model = chats(reader(tmp_path, NO_SYSTEM))
    assert not model.folder.reads_system
    assert list(model.reply([asked("so?")], [1], GREEDY)) == list(
        model.reply([asked("so?", system=None)], [1], GREEDY)
    )


def test_a_template_that_has_a_system_turn_is_known(
    text: InProcessChats, eyes: InProcessChats
) -> None:
    assert text.folder.reads_system
    assert not eyes.folder.reads_system  # the tiny preset's drops it


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda f: (f / "run.py").write_text(""), "run.py can run code"),
        (lambda f: (f / "model.safetensors").unlink(), r"no \*\.safetensors"),
        (lambda f: (f / "chat_template.jinja").unlink(), "no chat template"),
        (
            lambda f: (f / "config.json").write_text(json.dumps({"model_type": "nobody"})),
            "nobody",
        ),
    ],
)
def test_a_folder_that_cannot_speak_is_refused_in_one_line(
    tmp_path: Path, spoil: object, told: str
) -> None:
    folder = reader(tmp_path)
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(ConfigError, match=told) as error:
        chats(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


def test_what_is_written_depends_on_what_the_model_takes(
    text: InProcessChats, eyes: InProcessChats
) -> None:
    one = asked("how many?", 1, system=None)
    [turn] = eyes.folder.written(one, "image_pil")
    assert turn["content"][0] == {"type": "image_pil", "image_pil": one.pictures[0]}
    [plain] = ChatFolder(text.folder.path).written(asked("how many?", system=None))
    assert plain == {"role": "user", "content": "how many?"}
