"""The one declaration of an OpenAI-compatible endpoint."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from m2r_train.api.common import EndpointRef, key_variable


def test_an_endpoint_needs_an_address_and_a_model_and_nothing_else() -> None:
    ref = EndpointRef.model_validate({"url": "https://host:8000/v1", "model": "org/judge-7b"})
    assert ref.secret_ref is None
    assert (ref.timeout_seconds, ref.retries, ref.concurrency) == (300, 8, 8)


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "https://user:pass@host/v1", "model": "m"},
        {"url": "ftp://host", "model": "m"},
        {"url": "https://host/AKIAABCDEFGHIJKLMNOP", "model": "m"},
        {"url": "https://host", "model": ""},
        {"url": "https://host", "model": "m", "apiKey": "sk-1"},
    ],
)
def test_no_secret_stands_in_it(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        EndpointRef.model_validate(fields)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("generator.endpoint", "M2R_API_KEY_GENERATOR_ENDPOINT"),
        ("quality.judge.endpoint", "M2R_API_KEY_QUALITY_JUDGE_ENDPOINT"),
        ("benchmarks[0].judge.endpoint", "M2R_API_KEY_BENCHMARKS_0_JUDGE_ENDPOINT"),
    ],
)
def test_each_field_has_a_variable_of_its_own(path: str, name: str) -> None:
    assert key_variable(path) == name
