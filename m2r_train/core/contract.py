"""The output contract ``<think>..</think><answer>\\boxed{..}</answer>`` and how it is read.

Rewards, data verification and the benchmark scorers share these functions: a completion has one
meaning everywhere. All of them are total (no text makes them raise), linear in the text, and
bounded by caps set before any parsing (rewards.md sections 1 and 2).
"""

from __future__ import annotations

import re

__all__ = ["extract_answer", "format_valid", "read_completion"]

_CONTRACT = ["<think>", "</think>", "<answer>", "</answer>"]

_TAG = re.compile(r"</?(?:think|answer)>")

# A text of nothing but "<" costs no more than its first few thousand; what follows them is not
# read. A completion of 4096 tokens has fewer.
_MAX_ANGLES = 5000

# (tag, start, end) in order of position
Tags = list[tuple[str, int, int]]

# Boxes are looked for in the end of a block; real blocks are a few dozen characters.
_MAX_BOX_SEARCH = 8192

# An escaped brace, \{, is text; a box may have its backslash doubled by careless quoting.
_BRACE = re.compile(r"(?P<box>\\\\?boxed\s*\{)|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL)


def extract_answer(completion: str) -> str | None:
    """The final answer of a completion, or None when it has none.

    In order (rewards.md section 1): the content of the last brace-balanced ``\\boxed{..}`` inside
    the last complete ``<answer>`` block; else that block's text; both stripped. Whatever stands
    inside ``<think>`` is not read, nor what stands before a ``</think>`` that the prompt opened.
    """
    return _extract(completion, _tags(completion))


def format_valid(completion: str, strict: bool = False) -> bool:
    """Format reward R_fmt (rewards.md section 2): does the completion keep to the contract?

    True when, outer whitespace aside, it is one non-empty think block, optional whitespace, one
    answer block and nothing else. ``strict`` also asks for exactly one ``\\boxed{}`` in the answer.
    """
    text = completion.strip()
    return _keeps_contract(text, _tags(text), strict)


def read_completion(completion: str, strict: bool = False) -> tuple[str | None, bool]:
    """(`extract_answer`, `format_valid`) of a completion, for the price of one scan."""
    text = completion.strip()
    tags = _tags(text)
    return _extract(text, tags), _keeps_contract(text, tags, strict)


def _tags(text: str) -> Tags:
    tags: Tags = []
    at = text.find("<")
    for _ in range(_MAX_ANGLES):
        if at < 0:
            break
        if match := _TAG.match(text, at):
            tags.append((match[0], at, match.end()))
        at = text.find("<", at + 1)
    return tags


def _extract(text: str, tags: Tags) -> str | None:
    block = _last_answer_block(text, tags)
    if block is None:
        return None
    box = _last_box(block)
    return (block if box is None else box).strip()


def _keeps_contract(text: str, tags: Tags, strict: bool) -> bool:
    if [tag for tag, _, _ in tags] != _CONTRACT:
        return False
    (_, first, think_start), (_, think_end, gap_start), (_, gap_end, start), (_, end, last) = tags
    if first != 0 or last != len(text) or text[gap_start:gap_end].strip():
        return False
    if not text[think_start:think_end].strip():
        return False
    block = text[start:end]
    return not strict or (len(block) <= _MAX_BOX_SEARCH and len(_boxes(block)) == 1)


def _last_answer_block(text: str, tags: Tags) -> str | None:
    """The text of the last ``<answer>..</answer>`` that lies outside of every think block."""
    block: str | None = None
    thinking, start = 0, -1
    opened_by_prompt = True  # until a <think> shows otherwise
    for tag, at, end in tags:
        if tag == "<think>":
            thinking, start, opened_by_prompt = thinking + 1, -1, False
        elif tag == "</think>":
            if opened_by_prompt:  # all before this was thought
                block = None
            thinking, start, opened_by_prompt = max(thinking - 1, 0), -1, False
        elif thinking:
            continue
        elif tag == "<answer>":
            start = end
        elif start >= 0:
            block, start = text[start:at], -1
    return block


def _last_box(block: str) -> str | None:
    word = block.rfind("boxed")
    if word < 0:
        return None
    end = block.find("}", word)
    if end >= 0 and block[max(word - 1, 0) : word + 6] == "\\boxed{":
        content = block[word + 6 : end]
        if "{" not in content and "\\" not in content:
            return content  # as nearly all are; what nests or escapes is parsed
    boxes = _boxes(block[-_MAX_BOX_SEARCH:])
    return boxes[-1] if boxes else None


def _boxes(text: str) -> list[str]:
    """The contents of all brace-balanced ``\\boxed{..}``, in order of where they open."""
    open_braces: list[tuple[bool, int]] = []
    spans: list[tuple[int, int]] = []
    for match in _BRACE.finditer(text):
        kind = match.lastgroup
        if kind == "close" and open_braces:
            is_box, start = open_braces.pop()
            if is_box:
                spans.append((start, match.start()))
        elif kind in ("box", "open"):
            open_braces.append((kind == "box", match.end()))
    return [text[start:end] for start, end in sorted(spans)]
