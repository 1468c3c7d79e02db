"""Model folders before any loader sees them: Hugging Face layout, and nothing that can run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from m2r_train.api.errors import ConfigError

TRAINED: Final = "qwen2_5_vl"
"""``model_type`` of what can be trained."""

_REFUSED_SUFFIXES = {".py", ".pkl", ".pickle", ".pt", ".pth", ".bin"}


def model_type(folder: Path) -> str | None:
    """What the folder's ``config.json`` says it is. Raises ConfigError where there is none."""
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise ConfigError(f"model {folder}: no config.json; give a Hugging Face model folder")
    try:
        config = json.loads(config_file.read_text())
    except ValueError as error:
        raise ConfigError(f"model {folder}: config.json is not JSON ({error})") from error
    told = config.get("model_type") if isinstance(config, dict) else None
    return told if isinstance(told, str) else None


def check_folder(folder: Path) -> None:
    """Refuse anything that is not a plain Qwen2.5-VL folder."""
    told = model_type(folder)
    if told != TRAINED:
        raise ConfigError(
            f"model {folder}: model_type is {told!r}; only {TRAINED!r} checkpoints can be trained"
        )
    check_safe(folder)


def check_safe(folder: Path) -> None:
    """Refuse a folder that brings code or pickles, or has no safetensors."""
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in _REFUSED_SUFFIXES:
            raise ConfigError(
                f"model {folder}: {file.name} can run code when loaded; "
                "keep only safetensors and JSON"
            )
        if file.name.endswith("config.json") and b'"auto_map"' in file.read_bytes():
            raise ConfigError(
                f"model {folder}: {file.name} has auto_map; code in checkpoints is refused"
            )
    if not any(folder.glob("*.safetensors")):
        raise ConfigError(f"model {folder}: no *.safetensors; convert the weights")
