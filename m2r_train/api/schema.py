"""What every model of the contract is built from: the base model, rules, and bounded types.

One declaration serves five readers: the trainer and the operator (parsed objects), the API server
(``crdgen``), the reference pages (``docsgen``) and ``m2r validate`` (``manifests``). Hence the
habits: every text and list has an upper bound (the API server prices CEL rules by them), bounds
are inclusive (``JSONSchemaProps`` has no numeric exclusive ones), variants are optional blocks
with a rule rather than discriminated unions (structural schemas have none).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

GROUP: Final = "m2r.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = "m2r.dev/v1alpha1"

RULE_ERROR: Final = "m2r_rule"


@dataclass(frozen=True, slots=True)
class Rule:
    """One cross-field rule, for the API server (``cel``) and for everyone else (``check``).

    ``path`` is the camelCase field that an error points at, relative to the model ("" for the
    model itself). ``message`` holds for both sides, so it never quotes a value. ``check`` is
    None for rules about a change (``oldSelf``), which only the API server can see.
    """

    path: str
    cel: str
    message: str
    check: Callable[[Any], bool] | None = None

    @property
    def is_transition(self) -> bool:
        """Whether the rule compares with the object's former state."""
        return "oldSelf" in self.cel


def _alias(name: str) -> str:
    """``group_size`` -> ``groupSize``; a trailing underscore (``from_``) dodges a keyword."""
    return to_camel(name.rstrip("_"))


class Model(BaseModel):
    """Base of the contract's models: frozen, strict about unknown fields, camelCase outside."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=_alias,
        populate_by_name=True,
        allow_inf_nan=False,
        regex_engine="rust-regex",
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _follow_rules(self) -> Model:
        broken = [r for r in self.rules if r.check is not None and not r.check(self)]
        if broken:
            raise PydanticCustomError(
                RULE_ERROR,
                "{text}",
                {
                    "text": "; ".join(f"{r.path}: {r.message}".removeprefix(": ") for r in broken),
                    "broken": [(r.path, r.message) for r in broken],
                },
            )
        return self


def cel_list(names: tuple[str, ...]) -> str:
    """A list of texts in CEL."""
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"


def exactly_one(*fields: str) -> Rule:
    """Exactly one of these optional fields is set (camelCase names, as in YAML)."""
    present = ", ".join(f"has(self.{name})" for name in fields)
    listed = ", ".join(fields[:-1]) + f" or {fields[-1]}"

    def check(model: Model) -> bool:
        by_alias = {info.alias: name for name, info in type(model).model_fields.items()}
        return sum(getattr(model, by_alias[f]) is not None for f in fields) == 1

    return Rule(
        path="",
        cel=f"[{present}].filter(x, x).size() == 1",
        message=f"must have exactly one of {listed}; keep one and remove the others",
        check=check,
    )


def unique_items(field: str, attribute: str) -> Rule:
    """The list ``field`` (a list of plain values) holds nothing twice."""
    return Rule(
        path=field,
        cel=f"self.{field}.all(a, self.{field}.exists_one(b, b == a))",
        message="must not hold the same value twice; remove the repetition",
        check=lambda model: len(set(getattr(model, attribute))) == len(getattr(model, attribute)),
    )


def unique_keys(field: str, attribute: str, key: str) -> Rule:
    """The items of the list ``field`` differ in ``key`` (a field with one-word name)."""

    def check(model: Model) -> bool:
        keys = [getattr(item, key) for item in getattr(model, attribute)]
        return len(set(keys)) == len(keys)

    return Rule(
        path=field,
        cel=f"self.{field}.all(a, self.{field}.exists_one(b, b.{key} == a.{key}))",
        message=f"must not hold the same {key} twice; rename or remove one",
        check=check,
    )


def list_map(key: str) -> dict[str, Any]:
    """For the API server: this list is a map by ``key``, so that appliers merge it by item."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


LIST_SET: Final[dict[str, Any]] = {"x-kubernetes-list-type": "set"}


def looks_like_secret(text: str) -> bool:
    """Whether a text holds what looks like an AWS access key id."""
    for start in range(len(text) - 19):
        if text[start : start + 4] in ("AKIA", "ASIA"):
            tail = text[start + 4 : start + 20]
            if all("0" <= c <= "9" or "A" <= c <= "Z" for c in tail):
                return True
    return False


def no_secret(field: str, *, instead: str = "storage.secretRef") -> Rule:
    """The optional text ``field`` holds no access key: a manifest never holds a secret."""
    return Rule(
        path=field,
        cel=f"!has(self.{field}) || !self.{field}.matches('(AKIA|ASIA)[0-9A-Z]{{16}}')",
        message=f"looks like an access key; name a Secret in {instead} instead",
        check=lambda model: not looks_like_secret(getattr(model, field) or ""),
    )


# --- texts -----------------------------------------------------------------------------------
# Patterns use what RE2 (the API server), Rust's regex (pydantic) and ECMA-262 have in common.
_STORE_URI = r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s]*)?|file:///[^\s]*)$"
_DATA_URI = (
    r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s]*)?|file:///[^\s]*"
    r"|hf://datasets/[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+@[0-9a-f]{40})$"
)
_ENDPOINT = r"^https?://[A-Za-z0-9.\[\]:-]+(/[^\s@]*)?$"
_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_IMAGE = r"^[a-z0-9][A-Za-z0-9._:/@-]*$"
_QUANTITY = r"^([0-9]+(\.[0-9]+)?)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
_QUALIFIED = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
_WORD = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"

PATTERN_HINTS: Final[dict[str, str]] = {
    _STORE_URI: "write s3://bucket/path or file:///path",
    _DATA_URI: "write s3://bucket/path, file:///path or hf://datasets/owner/name@commit",
    _ENDPOINT: "write http(s)://host:port, without user or password",
    _NAME: "use a-z, 0-9 and -, beginning with a letter and not ending with -",
    _SUBDOMAIN: "use a-z, 0-9, - and ., beginning and ending with a letter or digit",
    _IMAGE: "write registry/name:tag or registry/name@sha256:digest",
    _QUANTITY: 'write a Kubernetes quantity such as "2", "500m" or "64Gi"',
    _QUALIFIED: "write a Kubernetes name such as nvidia.com/gpu",
    _WORD: "use letters, digits, -, _ and ., beginning and ending with a letter or digit",
}

StoreUri = Annotated[str, StringConstraints(max_length=1024, pattern=_STORE_URI)]
DataUri = Annotated[str, StringConstraints(max_length=1024, pattern=_DATA_URI)]
Endpoint = Annotated[str, StringConstraints(max_length=512, pattern=_ENDPOINT)]
RunName = Annotated[str, StringConstraints(min_length=1, max_length=45, pattern=_NAME)]
ItemName = Annotated[str, StringConstraints(min_length=1, max_length=45, pattern=_NAME)]
ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=_SUBDOMAIN)]
Image = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=_IMAGE)]
QualifiedName = Annotated[str, StringConstraints(min_length=1, max_length=317, pattern=_QUALIFIED)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=_WORD)]
ShortText = Annotated[str, StringConstraints(max_length=256)]
LongText = Annotated[str, StringConstraints(max_length=4096)]


def _whole_number_to_text(value: object) -> object:
    """``cpu: 2`` means ``cpu: "2"``, as everywhere in Kubernetes."""
    is_whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return str(value) if is_whole else value


Quantity = Annotated[
    str,
    StringConstraints(min_length=1, max_length=32, pattern=_QUANTITY),
    BeforeValidator(_whole_number_to_text),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "maxLength": 32,
            "minimum": 0,
            "pattern": _QUANTITY,
            "x-kubernetes-int-or-string": True,
        }
    ),
]


def _yaml_off(value: object) -> object:
    """YAML 1.1, which kubectl still speaks, reads a bare On or Off as a boolean."""
    return {True: "On", False: "Off"}[value] if isinstance(value, bool) else value


def _switch(*values: str) -> WithJsonSchema:
    """An enum with an Off that may stand unquoted: the schema takes the boolean it becomes."""
    booleans = [value == "On" for value in values if value in ("On", "Off")]
    return WithJsonSchema(
        {"enum": [*values, *booleans], "x-kubernetes-preserve-unknown-fields": True}
    )


OnOff = Annotated[Literal["On", "Off"], BeforeValidator(_yaml_off), _switch("On", "Off")]
WeightKind = Annotated[Literal["Eq6", "Off"], BeforeValidator(_yaml_off), _switch("Eq6", "Off")]
MonitorAction = Annotated[
    Literal["Warn", "Stop", "Off"], BeforeValidator(_yaml_off), _switch("Warn", "Stop", "Off")
]
CorrectionKind = Annotated[
    Literal["Off", "TruncateToken", "MaskToken", "TruncateSequence", "MaskSequence"],
    BeforeValidator(_yaml_off),
    _switch("Off", "TruncateToken", "MaskToken", "TruncateSequence", "MaskSequence"),
]

# --- numbers ---------------------------------------------------------------------------------
MAX_INT: Final = 2_147_483_647
Count = Annotated[int, Field(ge=0, le=MAX_INT)]
PositiveCount = Annotated[int, Field(ge=1, le=MAX_INT)]
Seconds = Annotated[int, Field(ge=1, le=MAX_INT)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Unbounded = Annotated[float, Field(ge=0, le=1e9)]
