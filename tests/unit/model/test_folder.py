"""A saved folder loads everywhere; a folder that could run code, or is no model, is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from unit.model.tinies import hf_inputs, picture, request, sample, small_policy

from m2r_train.api.errors import ConfigError
from m2r_train.model.folders import check_folder
from m2r_train.model.policy import Extent, Policy


@pytest.fixture(scope="module")
def policy() -> Policy:
    return small_policy(seed=5)


@pytest.fixture(scope="module")
def saved(policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    policy.save(folder)
    return folder


def test_the_folder_holds_safetensors_and_text_only(saved: Path) -> None:
    names = {path.name for path in saved.rglob("*") if path.is_file()}
    assert {"model.safetensors", "config.json", "generation_config.json"} <= names
    assert {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"} <= names
    assert {Path(name).suffix for name in names} <= {".safetensors", ".json", ".jinja"}


def test_transformers_own_loaders_give_equal_logits(policy: Policy, saved: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(saved, local_files_only=True)
    processor = AutoProcessor.from_pretrained(saved, local_files_only=True)
    image = picture(48, 32)
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "how?"}]}]
    text = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[text], images=[image], return_tensors="pt")
    asked = request(policy, "how?", image)
    assert inputs["input_ids"][0].tolist() == list(asked.prompt.tokens)
    with torch.no_grad():
        ours = policy.module(**hf_inputs(policy, asked)).logits
        assert torch.equal(model(**inputs).logits, ours)


def test_a_saved_policy_is_the_same_policy(policy: Policy, saved: Path) -> None:
    again = Policy.load(saved)
    assert again.stop_tokens == policy.stop_tokens
    assert again.end_of_turn == policy.end_of_turn
    state = again.module.state_dict()
    assert all(torch.equal(v, state[n]) for n, v in policy.module.state_dict().items())
    asked = [sample("how <|image_pad|> many <|vision_end|>?", images=(b"",))]
    one, two = (p.lay_out(asked, [[Extent((37, 50))]])[0] for p in (policy, again))
    assert one.tokens == two.tokens
    assert one.grids == two.grids
    assert torch.equal(one.positions, two.positions)


def test_saving_twice_gives_the_same_bytes(policy: Policy, saved: Path, tmp_path: Path) -> None:
    policy.save(tmp_path / "again")
    Policy.load(saved).save(tmp_path / "loaded")
    for path in saved.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    for name in ("model.safetensors", "tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / "loaded" / name).read_bytes() == (saved / name).read_bytes(), name


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def put(name: str, content: str | bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return change


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "broken JSON": (put("config.json", '{"model_type": "qwen2_5_vl"'), "config.json is not JSON"),
    "not text": (put("config.json", b"\xff\xfe{"), "is not JSON"),
    "a list": (put("config.json", '["qwen2_5_vl"]'), "model_type is None"),
    "another model": (lambda f: edit_config(f, model_type="llama"), "model_type is 'llama'"),
    "auto_map": (
        lambda f: edit_config(f, auto_map={"AutoModel": "evil.Model"}),
        "config.json has auto_map",
    ),
    "auto_map further in": (
        lambda f: edit_config(f, text_config={"auto_map": {"AutoModel": "evil.Model"}}),
        "config.json has auto_map",
    ),
    "auto_map of the processor": (
        put("processor_config.json", '{"auto_map": {"AutoProcessor": "evil.Processor"}}'),
        "processor_config.json has auto_map",
    ),
    "auto_map of the tokenizer": (
        put("tokenizer_config.json", '{"auto_map": {"AutoTokenizer": ["evil.T", null]}}'),
        "tokenizer_config.json has auto_map",
    ),
    "Python": (put("modeling_qwen.py", "print('hello')"), "modeling_qwen.py can run code"),
    "Python further in": (put("sub/x.PY", "print('hello')"), "x.PY can run code"),
    "a pickle": (put("pytorch_model.bin", "x"), "pytorch_model.bin can run code"),
    "training arguments": (put("training_args.pt", "x"), "training_args.pt can run code"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no \\*.safetensors"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_folder_is_refused_in_one_line(case: str, saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    check_folder(folder)
    change, message = REFUSED[case]
    change(folder)
    with pytest.raises(ConfigError, match=message) as raised:
        Policy.load(folder)
    assert str(raised.value).startswith(f"model {folder}: ")
    assert "\n" not in str(raised.value)
