"""Computes CRC-32C (Castagnoli), the checksum in TFRecord files.

The checksum is linear over bits, so the parts of a long text are computed at the same time, and combined two
by two: the checksum of a part followed by zeros is a fixed linear map of it.

References
----------
RFC 3720, appendix B.4 (test vectors). TensorFlow, core/lib/io/record_writer.h (the mask).
"""

from __future__ import annotations

from functools import cache

import numpy as np

_POLYNOMIAL = 0x82F63B78
_WIDTH = 128
_SHORT = 256


@cache
def _table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table


@cache
def _plain_table() -> list[int]:
    return [int(one) for one in _table()]


@cache
def _zeros(power: int) -> np.ndarray:
    """The map of a checksum through 2**power zero bytes: a table for each of its four bytes."""
    if power == 0:
        table = _table()
        values = np.arange(256, dtype=np.uint32)
        states = np.stack([values << np.uint32(8 * byte) for byte in range(4)])
        return (states >> np.uint32(8)) ^ table[states & 0xFF]
    half = _zeros(power - 1)
    return _mapped(half, half)


def _mapped(tables: np.ndarray, states: np.ndarray) -> np.ndarray:
    mapped = tables[0][states & 0xFF]
    for byte in range(1, 4):
        mapped = mapped ^ tables[byte][(states >> np.uint32(8 * byte)) & 0xFF]
    return mapped


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of `data`."""
    if len(data) < _SHORT:
        plain, state = _plain_table(), 0xFFFFFFFF
        for byte in data:
            state = (state >> 8) ^ plain[(state ^ byte) & 0xFF]
        return state ^ 0xFFFFFFFF
    rows = 1 << (-(-len(data) // _WIDTH) - 1).bit_length()
    # Zeros in front of the text change nothing of a state that begins with zero.
    padded = np.zeros(rows * _WIDTH, np.uint8)
    text = np.frombuffer(data, np.uint8)
    padded[-len(data) :] = text
    padded[len(padded) - len(data) : len(padded) - len(data) + 4] ^= 0xFF
    columns = np.ascontiguousarray(padded.reshape(rows, _WIDTH).T)
    table, states = _table(), np.zeros(rows, np.uint32)
    for column in columns:
        states = (states >> np.uint32(8)) ^ table[(states ^ column) & 0xFF]
    power = _WIDTH.bit_length() - 1
    while len(states) > 1:
        states = _mapped(_zeros(power), states[0::2]) ^ states[1::2]
        power += 1
    return int(states[0]) ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    """Return the masked CRC-32C of `data`, as TFRecord files store it."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
