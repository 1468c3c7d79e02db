"""A reward of one's own: what `rewards.own` of rlvr.yaml points at (docs/own-rewards.md)."""


def reward(completion: str, problem: dict) -> float:
    """From 0 to 1: the share of different words, against chains that go round in circles.

    `problem` has the question, its answer and more, which this reward has no use for.
    """
    words = completion.lower().split()
    return len(set(words)) / len(words) if words else 0.0
