"""What an error of botocore means: an answer, a wrong configuration, or a store in trouble."""

from __future__ import annotations

from botocore.exceptions import (
    ChecksumError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    InvalidConfigError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    ResponseStreamingError,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectTimeoutError as _ConnectTimeoutError

_CORRUPT = (ChecksumError, FlexibleChecksumError)
BROKEN_BODY = (IncompleteReadError, ResponseStreamingError, ReadTimeoutError, *_CORRUPT)
"""A reply that began well and broke off, or whose checksum does not hold."""

_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    ProfileNotFound,
)
_SETTINGS = (NoRegionError, ParamValidationError, InvalidConfigError)
_TIMEOUTS = (ReadTimeoutError, _ConnectTimeoutError)
_THROTTLED = ("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded")
_OTHER_REGION = ("PermanentRedirect", "AuthorizationHeaderMalformed", "301")


def code_of(error: BaseException) -> str:
    """S3's error code, empty where there is none (no reply, or a reply without a body)."""
    cause = _client_error(error)
    return str(cause.response.get("Error", {}).get("Code", "")) if cause else ""


def status_of(error: BaseException) -> int:
    """The HTTP status, 0 without a reply."""
    cause = _client_error(error)
    metadata = cause.response.get("ResponseMetadata", {}) if cause else {}
    return int(metadata.get("HTTPStatusCode", 0))


def is_corrupt(error: BaseException) -> bool:
    """Whether the bytes that came cannot be trusted, so that reading starts again."""
    return isinstance(error, _CORRUPT)


def label(error: BaseException) -> str | None:
    """One of a closed set, for metrics; None for an ordinary answer (404, 412)."""
    status, code = status_of(error), code_of(error)
    cases = (
        (status in (404, 412), None),
        (status == 409, "conflict"),
        (status in (401, 403), "denied"),
        (status == 429 or code in _THROTTLED, "throttled"),
        (status >= 500, "server"),
        (isinstance(error, _TIMEOUTS), "timeout"),
        (is_corrupt(error), "corrupt"),
        (isinstance(error, (ConnectionError, HTTPClientError, *BROKEN_BODY)), "connection"),
    )
    return next((kind for matches, kind in cases if matches), "other")


def configuration_problem(error: BaseException, bucket: str, reached: bool) -> str | None:
    """What the user is to change, in a few words; None if it is not theirs to change.

    ``reached``: whether this endpoint has ever replied. One that has and no longer does is in
    trouble; one that never has is taken for a wrong address.
    """
    status, code = status_of(error), code_of(error)
    line = " ".join(str(error).split())
    cases = (
        (code == "NoSuchBucket", f"there is no bucket {bucket}: create it or correct storage.uri"),
        (code in _OTHER_REGION, "the bucket is in another region: set storage.region"),
        (
            status in (401, 403),
            f"access denied ({code}): check the credentials and their rights to {bucket}",
        ),
        (
            isinstance(error, _CREDENTIALS),
            f"{line}: set storage.secretRef or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        (isinstance(error, _SETTINGS), f"{line}: correct storage.uri, endpoint or region"),
        (
            status == 501,
            "the store lacks a function that M2R needs: see `m2r store check`",
        ),
        (
            status == 409,
            "a file stands where a folder is needed: choose another prefix in storage.uri",
        ),
        (
            isinstance(error, (ConnectionError, HTTPClientError)) and not reached,
            f"cannot be reached ({type(error).__name__}): check storage.endpoint and the network",
        ),
        (
            400 <= status < 500 and status not in (404, 408, 409, 412, 429),
            f"request refused ({code}): check storage.uri, endpoint and region",
        ),
    )
    return next((problem for matches, problem in cases if matches), None)


def _client_error(error: BaseException | None) -> ClientError | None:
    """The error reply behind an error, also where the transfer manager has wrapped it."""
    while error is not None and not isinstance(error, ClientError):
        error = error.__cause__ or error.__context__
    return error
