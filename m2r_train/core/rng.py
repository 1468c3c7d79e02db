"""Every random number of a run is a pure function of (seed, what it is for, position).

There is no generator state anywhere, so there is none to save, restore or get wrong on a resume.
"""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *path: int | str) -> int:
    """A 63-bit seed for one purpose: ``derive_seed(run_seed, "rollout", step, prompt, sample)``.

    Parts are length-prefixed, so ("ab", "c") and ("a", "bc") differ. The result does not depend
    on the process, the platform or ``PYTHONHASHSEED``.
    """
    digest = hashlib.blake2b(digest_size=8, key=seed.to_bytes(16, "little", signed=True))
    for part in path:
        raw = f"{type(part).__name__}:{part}".encode()
        digest.update(len(raw).to_bytes(4, "little") + raw)
    return int.from_bytes(digest.digest(), "little") >> 1
