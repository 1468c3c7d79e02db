"""``m2r-operator`` and ``python -m m2r_operator``."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from typing import Never

from m2r_operator.settings import Settings, SettingsError, load

WRONG_SETTINGS = 64
NO_CLUSTER = 78


def main() -> None:
    """Run the operator; ends the process."""
    try:
        settings = load(sys.argv[1:], os.environ)
    except SettingsError as error:
        _fail(str(error), WRONG_SETTINGS)
    sys.exit(run(settings))


def run(settings: Settings) -> int:
    """The process with checked settings; its exit code. Kopf is imported only now."""
    from m2r_operator import credentials  # noqa: PLC0415 - a wrong flag needs no libraries
    from m2r_operator.process import Process  # noqa: PLC0415

    set_up_logs(settings)
    try:
        access = credentials.find(kubeconfig=settings.kubeconfig, context=settings.context)
    except credentials.CredentialsError as error:
        _fail(str(error), NO_CLUSTER)
    gc.collect()
    gc.freeze()  # what is imported stays: the collector need not walk it again and again

    async def serve() -> int:
        return await Process(settings, access).run()

    try:
        return asyncio.run(serve())
    except OSError as error:  # a port that is taken
        _fail(str(error), NO_CLUSTER)


def set_up_logs(settings: Settings) -> None:
    """One JSON object a line (Kopf's formatter), or text for people."""
    import kopf  # noqa: PLC0415

    kopf.configure(
        log_format=kopf.LogFormat.JSON if settings.log_format == "json" else kopf.LogFormat.FULL
    )
    logging.getLogger().setLevel(settings.log_level.upper())


def _fail(message: str, code: int) -> Never:
    print(f"m2r-operator: {message}", file=sys.stderr)  # noqa: T201 - the one line of a wrong start
    sys.exit(code)


if __name__ == "__main__":
    main()
