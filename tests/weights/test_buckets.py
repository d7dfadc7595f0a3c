import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from orchestra_ray.weights.buckets import (
    ALIGNMENT_BYTES,
    CorruptBucket,
    Manifest,
    TensorEntry,
    checksum,
    make_buckets,
    read_bucket,
    verify_bucket,
)

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int8, torch.bool]


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 9), max_size=3))
    seed = draw(st.integers(0, 2**16))
    values = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    transposed = draw(st.booleans()) and values.dim() > 1
    return values.transpose(0, 1) if transposed else values


named_tensors = st.lists(tensors(), max_size=12).map(
    lambda values: [(f"layer.{i}.weight", tensor) for i, tensor in enumerate(values)]
)


def manifest_of(
    buckets: list[tuple[tuple[TensorEntry, ...], np.ndarray]], version: int = 7
) -> Manifest:
    entries = tuple(entry for entries, _ in buckets for entry in entries)
    checksums = tuple(checksum(array) for _, array in buckets)
    return Manifest(version, entries, checksums, sum(entry.nbytes for entry in entries))


@given(named_tensors, st.integers(1, 2000))
def test_tensors_come_back_as_they_went_in(
    named: list[tuple[str, Tensor]], bucket_bytes: int
) -> None:
    buckets = list(make_buckets(named, bucket_bytes))
    manifest = manifest_of(buckets)
    back = []
    for index, (_, array) in enumerate(buckets):
        array.flags.writeable = False
        back += list(read_bucket(array, manifest.in_bucket(index)))
    assert [name for name, _ in back] == [name for name, _ in named]
    for (_, found), (_, sent) in zip(back, named, strict=True):
        assert found.dtype == sent.dtype and found.shape == sent.shape
        assert torch.equal(found, sent)
    assert manifest.total_bytes == sum(tensor.nbytes for _, tensor in named)


@given(named_tensors, st.integers(1, 2000))
def test_buckets_are_aligned_and_closed_by_the_next_tensor(
    named: list[tuple[str, Tensor]], bucket_bytes: int
) -> None:
    buckets = list(make_buckets(named, bucket_bytes))
    for index, (entries, array) in enumerate(buckets):
        assert entries
        assert all(entry.bucket == index for entry in entries)
        assert all(entry.offset % ALIGNMENT_BYTES == 0 for entry in entries)
        assert array.size == entries[-1].offset + entries[-1].nbytes
        assert array.size <= bucket_bytes or sum(entry.nbytes > 0 for entry in entries) == 1
    for (_, array), (following, _) in zip(buckets, buckets[1:], strict=False):
        start = -(-array.size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        assert start + following[0].nbytes > bucket_bytes


@given(named_tensors.filter(lambda named: any(t.numel() for _, t in named)), st.data())
def test_one_flipped_bit_is_caught_in_a_line_that_names_version_and_bucket(
    named: list[tuple[str, Tensor]], data: st.DataObject
) -> None:
    buckets = list(make_buckets(named, 256))
    manifest = manifest_of(buckets, version=41)
    full = [index for index, (_, array) in enumerate(buckets) if array.size]
    index = data.draw(st.sampled_from(full))
    array = buckets[index][1].copy()
    verify_bucket(array, manifest, index)
    array[data.draw(st.integers(0, array.size - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(
        CorruptBucket, match=rf"^weights version 41: bucket {index} of .*$"
    ) as caught:
        verify_bucket(array, manifest, index)
    assert "\n" not in str(caught.value)


def test_a_tensor_is_not_held_once_the_next_one_is_drawn() -> None:
    shared = torch.zeros(4)

    def gathered():
        for i in range(4):
            shared.fill_(i)
            yield str(i), shared

    ((entries, array),) = make_buckets(gathered(), 4096)
    assert [tensor[0].item() for _, tensor in read_bucket(array, entries)] == [0, 1, 2, 3]


def test_reading_copies_nothing_and_does_not_warn_of_read_only_memory() -> None:
    ((entries, array),) = make_buckets([("a", torch.arange(8.0)), ("b", torch.ones(3))], 4096)
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensors = dict(read_bucket(array, entries))
    assert tensors["a"].data_ptr() == array.ctypes.data
    assert tensors["b"].data_ptr() == array.ctypes.data + entries[1].offset


def test_no_tensors_make_no_buckets() -> None:
    assert list(make_buckets([], 64)) == []


def test_a_manifest_gives_the_entries_of_one_bucket() -> None:
    entry = TensorEntry("a", "float32", (1,), 0, 0, 4)
    other = replace(entry, name="b", bucket=1)
    assert Manifest(1, (entry, other), (0, 0), 8).in_bucket(1) == [other]
