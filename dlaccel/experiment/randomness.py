"""Random numbers that depend on names, never on what ran before."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator

import torch


def seed_of(*key: object) -> int:
    """A 63-bit seed: a hash of ``key``, equal on every machine and in every process."""
    text = json.dumps(key, default=str, sort_keys=True)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


@contextlib.contextmanager
def private_randomness(device: torch.device, *key: object) -> Iterator[None]:
    """Starts torch's global generators from ``seed_of(*key)`` inside and puts them back after."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        torch.default_generator.manual_seed(seed_of(*key))
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed_of(*key))
        yield
