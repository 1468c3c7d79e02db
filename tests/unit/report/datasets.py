"""Small datasets of our own layout in a folder, complete as a run publishes them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from m2r_train.core.records import Quality, Sample
from m2r_train.data.parquet import write_shard
from m2r_train.store import LocalStore, publish_folder

GOOD = "<think>2 and 2 are 4. Check: 4 - 2 = 2.</think>\n<answer>\\boxed{4}</answer>"


def picture(tone: int, size: tuple[int, int] = (640, 480)) -> bytes:
    """A picture of one tone as a JPEG."""
    out = io.BytesIO()
    Image.new("RGB", size, (tone % 256, 90, 160)).save(out, "JPEG")
    return out.getvalue()


def sample(number: int, **changes: Any) -> Sample:
    """A question about one picture, with a good chain."""
    whole: dict[str, Any] = {
        "id": f"q{number}",
        "domain": "general",
        "task": "Sum",
        "source": "own",
        "question": f"What is 2 + 2? ({number})",
        "answer": "4",
        "answer_type": "number",
        "reward": "exact",
        "images": (picture(number),),
        "chain": GOOD,
        "quality": Quality(structure=5, load=4, verification=4),
        "difficulty": 0.25,
        "accuracy": 0.75,
    }
    return Sample(**whole | changes)


def manifest_of(splits: dict[str, Sequence[Sample]], **changes: Any) -> dict[str, Any]:
    """The manifest of these splits, of which nothing was dropped but one duplicate."""
    kept = sum(map(len, splits.values()))
    whole: dict[str, Any] = {
        "version": 1,
        "run": "data",
        "seed": 3,
        "spec": {"sources": [{"name": "own", "dataset": {"uri": "file:///own"}}], "shards": 2},
        "inputs": {"sources[0].dataset": "a" * 64},
        "sources": {"own": {"made": kept + 1, "kept": kept + 1}},
        "dropped": {"duplicate": 1},
        "splits": {
            split: {
                "samples": len(own),
                "tasks": {t: sum(s.task == t for s in own) for t in {s.task for s in own}},
            }
            for split, own in splits.items()
        },
    }
    return whole | changes


def publish(folder: Path, splits: dict[str, Sequence[Sample]], **changes: Any) -> Path:
    """The dataset in ``folder``, two samples a file; ``changes`` are of the manifest."""
    files = {"manifest.json": json.dumps(manifest_of(splits, **changes)).encode()}
    for split, own in splits.items():
        for k in range(0, len(own), 2):
            files[f"{split}/{k:05d}.parquet"] = write_shard(own[k : k + 2])
    publish_folder(LocalStore(folder.parent), folder.name, files)
    return folder
