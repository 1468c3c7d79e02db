"""Manifests of datasets as a synthesis writes them, with every kind of loss."""

from __future__ import annotations

from typing import Any

HOSTILE = "<script>alert(1)</script> | `x` [a](javascript:b) \n# head"


def manifest(**changes: Any) -> dict[str, Any]:
    """220 made, 50 off, 20 cleaned away, 30 not needed, 20 too easy or too hard: 100 kept."""
    whole: dict[str, Any] = {
        "version": 1,
        "run": "data",
        "seed": 7,
        "spec": {
            "sources": [
                {"name": "rooms", "simulator": {"tasks": ["ObjectCount"], "video": False}},
                {"name": "own", "dataset": {"uri": "s3://lab/own"}, "simulator": None},
            ],
            "decontamination": {"against": [{"name": "theirs"}]},
            "nearDuplicates": None,
            "difficulty": {"rollouts": 8},
            "quality": {"minEach": 3, "minMean": 4.0},
            "generator": {"model": {"uri": "s3://lab/teacher"}},
        },
        "inputs": {"sources[1].dataset": "a" * 64, "difficulty.model": None},
        "sources": {
            "own": {"kept": 100, "made": 100},
            "rooms": {"answer": 40, "format": 10, "kept": 70, "made": 120},
        },
        "dropped": {
            "duplicate": 6,
            "conflicting": 4,
            "benchmark-picture": 7,
            "benchmark-question": 3,
            "solved": 12,
            "unsolved": 5,
            "no-spread": 3,
        },
        "splits": {
            "sft": {"samples": 60, "tasks": {"ObjectCount": 40, "Sum": 20}},
            "rlvr": {"samples": 40, "tasks": {"ObjectCount": 10, "Sum": 30}},
            "eval": {"samples": 0, "tasks": {}},
        },
        "teaching": {
            "questions": {"asked": 150, "taught": 90, "untaught": 60},
            "chains": {
                "written": 600,
                "no-text": 10,
                "format": 50,
                "answer": 140,
                "repetition": 20,
                "unjudged": 5,
                "quality": 75,
                "not-best": 210,
                "kept": 90,
            },
        },
        "prompts": {"judge": "Score ```{chain}```"},
    }
    return whole | changes
