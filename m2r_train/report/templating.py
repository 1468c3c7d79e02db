"""Pages from templates: everything escaped, nothing undefined, written in one go."""

from __future__ import annotations

from pathlib import Path

import jinja2


def environment() -> jinja2.Environment:
    """What renders every page. Text is escaped, JSON for the script too, an unknown name raises."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("m2r_train.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":")}
    return made


def write_page(page: str, out: Path) -> Path:
    """Writes ``out``, replaced in one go; returns it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    part.write_text(page, encoding="utf-8", errors="replace")
    part.replace(out)
    return out
