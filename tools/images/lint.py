"""What every Dockerfile of this project keeps to, as a check: `problems` names what does not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

REFERENCE = re.compile(r"(?P<name>[\w.${}/:-]+?)(:(?P<tag>[\w.${}-]+))?(@sha256:[0-9a-f]{64})?")
USER = re.compile(r"[1-9]\d*:\d+")
SECRET = re.compile(r"PASSWORD|PASSWD|TOKEN|SECRET|CREDENTIAL|(ACCESS|PRIVATE|API)_?KEY", re.I)
PIPED = re.compile(r"(curl|wget)\b[^|;&]*\|\s*(\S*/)?(ba|da|z)?sh\b")
INSTALL = re.compile(r"pip (install|sync)\b[^&|;]*")
APT = re.compile(r"apt-get install\b[^&|;]*")


@dataclass(frozen=True)
class Instruction:
    """One instruction: its line, its keyword in capitals, the rest with continuations joined."""

    line: int
    keyword: str
    rest: str


def parse(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile without heredocs."""
    found, number = [], 1
    lines = iter(text.splitlines())
    for line in lines:
        start, whole = number, line
        number += 1
        while whole.endswith("\\"):
            whole = whole[:-1] + next(lines, "")
            number += 1
        if whole.strip() and not whole.lstrip().startswith("#"):
            keyword, _, rest = whole.strip().partition(" ")
            found.append(Instruction(start, keyword.upper(), rest.strip()))
    return found


def problems(text: str) -> Iterator[str]:
    """One line for each way in which the Dockerfile ``text`` breaks a rule."""
    instructions = parse(text)
    defaults = dict(
        i.rest.split("=", 1) for i in instructions if i.keyword == "ARG" and "=" in i.rest
    )
    stages: set[str] = set()
    user = None
    for one in instructions:
        where = f"line {one.line}: {one.keyword}"
        match one.keyword:
            case "FROM":
                base, _, stage = one.rest.partition(" AS ")
                yield from (f"{where}: {what}" for what in unpinned(base, stages, defaults))
                stages.add(stage.strip())
                user = None
            case "USER":
                user = one.rest
            case "ADD":
                yield f"{where}: use COPY: ADD fetches and unpacks"
            case "COPY" if {".", "./"} & set(one.rest.split()[:-1]):
                yield f"{where}: copies all of the context: name what the image needs"
            case "RUN":
                yield from (f"{where}: {what}" for what in careless(one.rest))
            case "ENTRYPOINT" | "CMD" if not is_exec_form(one.rest):
                yield f"{where}: write it as a JSON list: a shell would keep SIGTERM to itself"
            case "ARG" | "ENV" if SECRET.search(re.sub(r"=\S*", "", one.rest)):
                yield f"{where}: a secret stays in the image: use RUN --mount=type=secret"
    if user is None or not USER.fullmatch(user):
        yield "the last stage has no USER of the form UID:GID other than root"
    if not any(one.keyword == "ENTRYPOINT" for one in instructions):
        yield "there is no ENTRYPOINT"


def unpinned(base: str, stages: set[str], defaults: dict[str, str]) -> Iterator[str]:
    """Why a base image may be another one tomorrow."""
    if base in stages or base == "scratch":
        return
    argument = re.fullmatch(r"\$\{?(\w+)\}?", base)
    default = defaults.get(argument[1], "") if argument else ""
    if default in stages:
        return
    if argument is None:
        yield f"{base}: take the base as a build argument, so that a release can name a digest"
        return
    reference = REFERENCE.fullmatch(default)
    if reference is None or reference["tag"] in (None, "latest"):
        yield f"{argument[1]}: its default has no tag of a version"


def careless(shell: str) -> Iterator[str]:
    """What a RUN step does that cannot be repeated or trusted."""
    if PIPED.search(shell):
        yield "runs what it downloads"
    for command in INSTALL.finditer(shell):
        if not re.search(r"--require-hashes|--no-index", command[0]):
            yield "installs without hashes: give a lock and --require-hashes"
    for command in APT.finditer(shell):
        if "--no-install-recommends" not in command[0]:
            yield "apt-get install without --no-install-recommends"
        if "rm -rf /var/lib/apt/lists" not in shell:
            yield "leaves apt's lists in the layer"


def is_exec_form(rest: str) -> bool:
    """Whether it is a JSON list of words."""
    try:
        words = json.loads(rest)
    except json.JSONDecodeError:
        return False
    return isinstance(words, list) and all(isinstance(word, str) for word in words)
