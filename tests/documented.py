"""The commands that the documentation tells a reader to type, page by page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHELLS = ("console", "bash", "sh", "shell")
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEREDOC = re.compile(r"<<-?'?(\w+)'?")


@dataclass(frozen=True, slots=True)
class Command:
    """One command as it stands on a page, without prompt, comment and output."""

    page: str
    text: str

    @property
    def program(self) -> str:
        """What is started first."""
        return self.text.split()[0]


def pages() -> list[Path]:
    """Every page with commands for readers."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    found += sorted((ROOT / "docs").rglob("*.md"))
    return found + sorted((ROOT / "examples").rglob("README.md"))


def commands_of(page: Path) -> list[Command]:
    """The commands of a page, in order."""
    name = page.relative_to(ROOT).as_posix()
    return [
        Command(name, text)
        for language, block in _FENCE.findall(page.read_text())
        if language in SHELLS
        for text in commands(block, prompt=language == "console")
    ]


def commands(block: str, *, prompt: bool) -> Iterator[str]:
    """The commands of a block; with ``prompt`` those behind a ``$``, and the rest is output."""
    lines = iter(block.splitlines())
    for line in lines:
        if prompt and not line.startswith("$ "):
            continue
        text = line.removeprefix("$ ") if prompt else line
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        while text.endswith("\\"):
            text += "\n" + next(lines)
        if heredoc := _HEREDOC.search(text):
            for more in lines:
                text += "\n" + more
                if more.strip() == heredoc[1]:
                    break
            yield text
        else:
            yield without_comment(text)


def without_comment(text: str) -> str:
    """The command without a comment at its end: a ``#`` after a space, outside of quotes."""
    quote = ""
    for i, c in enumerate(text):
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c == "#" and text[i - 1 : i].isspace():
            return text[:i].rstrip()
    return text.rstrip()


def spans(page: Path) -> list[str]:
    """What stands in back quotes within the text of a page, outside of its blocks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
