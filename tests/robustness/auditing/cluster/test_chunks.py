"""Tests of chunks of unchanged images: every image has its rows exactly once, whatever workers do."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.auditing.cluster import chunks
from robustness.auditing.cluster.attacking import COPY_SECONDS
from robustness.auditing.cluster.chunks import Chunks
from robustness.images import Entry
from robustness.runs.records import ImageRow, Row, SizeRow


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Chunks of three images, and a clock on which every look takes longer than a copy waits for."""
    clock = count(1.0, COPY_SECONDS + 1)
    monkeypatch.setattr(chunks, "CHUNK", 3)
    monkeypatch.setattr(chunks, "time", SimpleNamespace(monotonic=lambda: next(clock)))


def _entries(number: int) -> list[tuple[int, Entry]]:
    return [(n, Entry(f"{n}.png", f"{n}.png", None)) for n in range(number)]


def _rows(one: tuple[int, Entry]) -> list[Row]:
    """The rows of an image: one in each of two tables."""
    position, entry = one
    return [
        ImageRow(key=entry.key, position=position, name=entry.name),
        SizeRow(image=entry.key, height=position, width=1),
    ]


@given(
    st.integers(0, 14),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.booleans()), max_size=40),
)
def test_every_image_has_its_rows_once(number, events):
    """Workers predict some images of their chunk, and then go on or end; at last one does the rest."""
    made = Chunks(_entries(number))
    known: list[Row] = []
    held: dict[int, list[tuple[int, Entry]]] = {}

    def predict(worker: int, most: int) -> None:
        for _ in range(min(most, len(held[worker]))):
            known.extend(made.new(worker, _rows(held[worker].pop(0))))

    for worker, most, ends in events:
        if not held.get(worker):
            held[worker] = made.next(worker)
        predict(worker, most)
        if ends:
            made.ended(worker)
            held[worker] = []
    for worker in list(held):
        made.ended(worker)
    for _ in range(number + 2):
        held[9] = made.next(9)
        predict(9, 3)
    assert made.finished
    assert sorted(map(str, known)) == sorted(
        str(row) for one in _entries(number) for row in _rows(one)
    )


def test_a_chunk_is_copied_when_nothing_else_is_left():
    made = Chunks(_entries(4))
    first, last = made.next(0), made.next(1)
    assert [n for n, _ in first + last] == [0, 1, 2, 3]
    assert made.next(2) == first
    # Each image has a copy now; a third would not help.
    assert made.next(3) == last
    assert made.next(4) == []
    assert not made.finished
    copied = [row for one in first for row in made.new(2, _rows(one))]
    assert copied == [row for one in first for row in _rows(one)]
    assert [row for one in first for row in made.new(0, _rows(one))] == []
    for one in last:
        made.new(1, _rows(one))
    assert made.finished


def test_a_copy_waits_for_the_first_worker(monkeypatch):
    monkeypatch.setattr(chunks, "time", SimpleNamespace(monotonic=lambda: 5.0))
    made = Chunks(_entries(2))
    assert made.next(0)
    assert made.next(1) == [] == made.next(1)


def test_a_lost_worker_loses_no_image_and_doubles_none():
    made = Chunks(_entries(3))
    chunk = made.next(0)
    assert made.new(0, _rows(chunk[0]))
    made.ended(0)
    again = made.next(1)
    assert again == chunk[1:]
    # What the lost worker had sent before arrives late.
    assert made.new(0, _rows(chunk[1])) == []
