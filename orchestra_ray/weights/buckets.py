"""Named tensors as a few large byte arrays ("buckets"), and back without a copy.

Invariants: a tensor is stored whole in one bucket, at an offset that is a multiple of 64 bytes;
buckets keep the order of the tensors; bytes, dtypes and shapes survive the round trip.
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ALIGNMENT_BYTES = 64


class CorruptBucket(Exception):
    """The bytes of a bucket differ from the published ones."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """The place of one tensor. `dtype` is torch's name, `offset` is in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bucket: int
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of one version of the weights. `checksums` has a CRC-32 per bucket."""

    version: int
    entries: tuple[TensorEntry, ...]
    checksums: tuple[int, ...]
    total_bytes: int  # of the tensors, without padding

    def in_bucket(self, bucket: int) -> list[TensorEntry]:
        return [entry for entry in self.entries if entry.bucket == bucket]


def make_buckets(
    named_tensors: Iterable[tuple[str, Tensor]], bucket_bytes: int
) -> Iterator[tuple[tuple[TensorEntry, ...], np.ndarray]]:
    """Yields (entries, bytes as uint8) of each bucket, in order.

    A bucket is closed if the next tensor would exceed `bucket_bytes`; a larger tensor has a bucket
    of its own. Each tensor is copied as soon as the iterator returns it and not referenced after
    that, so that gathered parameters can be freed one by one.
    """
    index, open_bucket = 0, _OpenBucket(0, bucket_bytes)
    for name, tensor in named_tensors:
        data = _bytes_of(tensor)
        if not open_bucket.takes(data.size):
            if open_bucket.entries:
                yield open_bucket.close()
                index += 1
            open_bucket = _OpenBucket(index, max(bucket_bytes, data.size))
        open_bucket.add(name, tensor, data)
    if open_bucket.entries:
        yield open_bucket.close()


def read_bucket(array: np.ndarray, entries: Iterable[TensorEntry]) -> Iterator[tuple[str, Tensor]]:
    """Yields (name, tensor) of the entries of one bucket, as views of `array`.

    The views must not be written to if the array is read-only, as arrays of the object store are:
    torch has no read-only tensors. Unlike `torch.from_numpy`, DLPack does not warn of that.
    """
    if array.size:
        data = torch.from_dlpack(array)
    else:
        data = torch.empty(0, dtype=torch.uint8)
    for entry in entries:
        raw = data[entry.offset : entry.offset + entry.nbytes]
        yield entry.name, raw.view(getattr(torch, entry.dtype)).reshape(entry.shape)


def checksum(array: np.ndarray) -> int:
    return zlib.crc32(array.data)


def verify_bucket(array: np.ndarray, manifest: Manifest, bucket: int) -> None:
    """Raises `CorruptBucket` if the bytes differ from those that the manifest describes."""
    found, expected = checksum(array), manifest.checksums[bucket]
    if found != expected:
        raise CorruptBucket(
            f"weights version {manifest.version}: bucket {bucket} of {len(manifest.checksums)} is "
            f"corrupt (CRC-32 {found:08x}, published as {expected:08x})"
        )


class _OpenBucket:
    """A bucket that is being filled."""

    def __init__(self, index: int, capacity_bytes: int):
        self.entries: list[TensorEntry] = []
        self._index = index
        # Zeros, since the padding between tensors is part of the checksum and is sent.
        self._array = np.zeros(capacity_bytes, dtype=np.uint8)
        self._used_bytes = 0

    def takes(self, nbytes: int) -> bool:
        return self._next_offset() + nbytes <= self._array.size

    def add(self, name: str, tensor: Tensor, data: np.ndarray) -> None:
        offset = self._next_offset()
        self._array[offset : offset + data.size] = data
        self._used_bytes = offset + data.size
        dtype = str(tensor.dtype).removeprefix("torch.")
        shape = tuple(tensor.shape)
        self.entries.append(TensorEntry(name, dtype, shape, self._index, offset, data.size))

    def close(self) -> tuple[tuple[TensorEntry, ...], np.ndarray]:
        return tuple(self.entries), self._array[: self._used_bytes]

    def _next_offset(self) -> int:
        return -(-self._used_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _bytes_of(tensor: Tensor) -> np.ndarray:
    # Flattened, since a zero-dimensional tensor cannot be viewed as another dtype.
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
