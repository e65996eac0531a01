"""Seeds for named random generators.

Every random draw in the project comes from a generator of its own, whose seed is derived from the one ``seed`` of
``params.yaml`` and the names of what it is drawn for. Adding a draw therefore never shifts another.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for the generator called ``names`` under ``seed``.

    The same arguments give the same seed on every machine and in every version of Python; any other arguments give
    one that is unrelated (BLAKE2b, RFC 7693).
    """
    text = "\x1f".join([str(seed), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return the NumPy generator called ``names`` under ``seed``."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, *names)))


def torch_generator(seed: int, *names: str | int) -> "torch.Generator":
    """Return the torch generator (on the CPU) called ``names`` under ``seed``."""
    # The processes that draw the demo survey need no torch, and it takes longer to import than they work.
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, *names))
