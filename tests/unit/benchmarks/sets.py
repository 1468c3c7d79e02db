"""Sets of records with known scores: each record is answered right or wrong on purpose."""

from __future__ import annotations

from typing import Any

Records = list[dict[str, Any]]

VSI_TYPES = (
    *("object_counting", "object_abs_distance", "object_size_estimation"),
    *("room_size_estimation", "object_rel_distance", "object_rel_direction_easy"),
    *("object_rel_direction_medium", "object_rel_direction_hard"),
    *("route_planning", "obj_appearance_order"),
)


def cv_bench(*sources: tuple[str, int, int]) -> Records:
    """Records of (source, right, rows); their tasks take turns."""
    tasks = {"Omni3D": ("Depth", "Distance")}
    return [
        {
            "idx": f"{source}-{i}",
            "source": source,
            "type": "3D" if source == "Omni3D" else "2D",
            "task": tasks.get(source, ("Count", "Relation"))[i % 2],
            "choices": ["x", "y"],
            "answer": "(A)",
            "prediction": "A" if i < right else "B",
        }
        for source, right, rows in sources
        for i in range(rows)
    ]


def vsi_bench(**right_of_ten: int) -> Records:
    """Ten records of each question type given; the others have five right."""
    return [
        {
            "id": f"{kind}-{i}",
            "question_type": kind,
            "ground_truth": "3" if numeric else "A",
            "options": None if numeric else ["A. x", "B. y"],
            "prediction": ("3" if numeric else "A") if i < right_of_ten.get(kind, 5) else "900",
        }
        for kind in VSI_TYPES
        for numeric in [kind in VSI_TYPES[:4]]
        for i in range(10)
    ]


def dynamath(right_by_seed: dict[str, int], variants: int = 10) -> Records:
    """A seed's first so many variants are right."""
    return [
        {
            "id": seed,
            "varid": variant,
            "answer_type": "multiple choice",
            "answer": "B",
            "subject": "algebra" if seed < "b" else "topology",
            "level": "undergraduate",
            "prediction": '{"short answer": "%s"}' % ("B" if variant <= right else "A"),
        }
        for seed, right in right_by_seed.items()
        for variant in range(1, variants + 1)
    ]


def we_math(two: dict[str, int], three: dict[str, int]) -> Records:
    """Problems by what their parts are: "110" is a right step, a right step, a wrong whole."""
    records = []
    number = 0
    for steps, counts in ((2, two), (3, three)):
        keys = [f"{steps}steps_{i}" for i in range(1, steps + 1)] + [f"{steps}steps_multi"]
        for pattern, count in counts.items():
            assert len(pattern) == steps + 1
            for _ in range(count):
                number += 1
                records += [
                    {
                        "ID": f"{steps}steps_{number}",
                        "key": key,
                        "answer": "C",
                        "option": "A. 1;B. 2;C. 3",
                        "prediction": "C" if part == "1" else "A",
                    }
                    for key, part in zip(keys, pattern, strict=True)
                ]
    return records
