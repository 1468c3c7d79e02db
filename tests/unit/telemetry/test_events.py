"""JSON-lines events, and what may never be in them."""

import io
import json
from pathlib import Path

import pytest

from m2r_train.telemetry.events import REDACTED, EventLog, redact

KEY = "AKIA" + "ABCDEFGHIJKLMNOP"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "text",
    [
        f"denied for {KEY}",
        "GET s3://ann:hunter2hunter2@minio:9000/lab failed",
        "Authorization: Bearer hunter2hunter2",
        f"token {JWT} expired",
        "using hf_" + "hunter2hunter2hunter2",
        "https://s3/lab?X-Amz-Signature=hunter2hunter2&x=1",
        "aws_secret_access_key = hunter2hunter2",
        "password: 'hunter2hunter2'",
        "-----BEGIN RSA PRIVATE KEY-----\nhunter2hunter2\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_a_credential_inside_a_message_is_taken_out(text: str) -> None:
    clean = redact(text)
    assert REDACTED in clean
    assert not any(secret in clean for secret in ("hunter2", KEY, JWT))


@pytest.mark.parametrize(
    "name",
    ["password", "AWS_SECRET_ACCESS_KEY", "secretAccessKey", "sessionToken", "hf_token", "apiKey",
     "Authorization", "private-key"],
)  # fmt: skip
def test_a_value_under_the_name_of_a_secret_is_taken_out(name: str) -> None:
    assert redact({"a": [{name: "hunter2"}]}) == {"a": [{name: REDACTED}]}


@pytest.mark.parametrize(
    "value",
    [
        {"completion_tokens": 512, "tokens_per_second": 1800.5, "maxCompletionTokens": "512"},
        {"secretRef": {"name": "s3-lab"}},
        {"uri": "s3://lab/runs/m2", "endpoint": "http://minio:9000"},
        {"message": "step 12 of 100: KL 0.01, reward 0.61", "none": None, "flag": True},
    ],
)
def test_what_is_no_secret_stays_as_it_is(value: dict[str, object]) -> None:
    assert redact(value) == value


def test_redaction_leaves_its_input_alone() -> None:
    given = {"password": "hunter2", "list": ["Bearer hunter2"]}
    redact(given)
    assert given == {"password": "hunter2", "list": ["Bearer hunter2"]}


def test_an_event_is_one_line_of_json() -> None:
    stream = io.StringIO()
    log = EventLog(stream, clock=lambda: 12.3456, run="rlvr")
    log.write("checkpoint", step=20, uri="s3://lab/x", loss=float("nan"))
    log.write("failed", error=ValueError("two\nlines, Bearer hunter2"), path=Path("/a"))
    first, second = stream.getvalue().splitlines()
    assert first == (
        '{"event":"checkpoint","loss":"NaN","run":"rlvr","step":20,"time":12.346,'
        '"uri":"s3://lab/x"}'
    )
    assert json.loads(second)["error"] == f"two\nlines, Bearer {REDACTED}"
