"""Derivation of seeds: the same parts give the same seed in every process."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """Returns a 63-bit seed from any parts; stable across processes, unlike `hash`."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
