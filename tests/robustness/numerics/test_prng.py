"""Tests of random numbers: published bits, distributions, and independence of the batch."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops
from scipy import stats

from robustness.numerics import prng


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_bits_match_random123(key, counter, expected):
    keys = np.array([key], np.uint32).view(np.int32)
    words = np.array(counter, np.uint32).view(np.int32)
    got = prng.threefry(keys, (words[:1].reshape(1, 1), words[1:].reshape(1, 1)))
    bits = [int(np.asarray(ops.convert_to_numpy(w)).view(np.uint32)[0, 0]) for w in got]
    assert bits == list(expected)


def test_a_row_draws_the_same_in_any_batch_and_order():
    keys = np.stack([prng.key_for(7, f"image {i}") for i in range(5)])
    together = ops.convert_to_numpy(prng.uniform(keys, 3, (4, 4, 3)))
    alone = ops.convert_to_numpy(prng.uniform(keys[2:3], 3, (4, 4, 3)))
    backwards = ops.convert_to_numpy(prng.uniform(keys[::-1].copy(), 3, (4, 4, 3)))
    np.testing.assert_array_equal(together[2], alone[0])
    np.testing.assert_array_equal(together[::-1], backwards)


def test_streams_keys_and_seeds_give_different_numbers():
    keys = np.stack([prng.key_for(0, "a"), prng.key_for(0, "b"), prng.key_for(1, "a")])
    first = ops.convert_to_numpy(prng.uniform(keys, np.array([0, 0, 0]), (1000,)))
    second = ops.convert_to_numpy(prng.uniform(keys[:1], 1, (1000,)))
    rows = np.concatenate([first, second])
    correlation = np.corrcoef(rows) - np.eye(4)
    assert np.abs(correlation).max() < 0.12
    assert prng.key_for(0, "ab", "c").tolist() != prng.key_for(0, "a", "bc").tolist()


def test_uniform_and_normal_numbers_have_their_distribution():
    keys = prng.key_for(11, "distribution")[None]
    flat = ops.convert_to_numpy(prng.uniform(keys, 0, (20_001,)))[0]
    bell = ops.convert_to_numpy(prng.normal(keys, 1, (20_001,)))[0]
    assert flat.shape == bell.shape == (20_001,)
    assert flat.min() > 0
    assert flat.max() < 1
    assert stats.kstest(flat, "uniform").pvalue > 1e-3
    assert stats.kstest(bell, "norm").pvalue > 1e-3


def test_many_numbers_at_once_match_single_draws(monkeypatch):
    keys = np.stack([prng.key_for(7, f"image {i}") for i in range(3)])
    shape = (prng.FUSED_FROM + 1,)
    fused = ops.convert_to_numpy(prng.uniform(keys, np.array([0, 5, 9]), shape))
    monkeypatch.setattr(prng, "FUSED_FROM", 10**9)
    prng._top.cache_clear()
    plain = ops.convert_to_numpy(prng.uniform(keys, np.array([0, 5, 9]), shape))
    prng._top.cache_clear()
    np.testing.assert_array_equal(fused, plain)
