"""Pictures are evaluated in chunks, by this process or another, and checked in their order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.verification import evaluation
from robustness.verification.evaluation import Answers, Question, faults_of, one_by_one
from robustness.verification.rows import CLASS, Inconsistency


def question(value: int) -> Question:
    """A picture of one pixel whose class should be its value."""

    def expect(answer):
        if answer != value:
            yield Inconsistency(CLASS, f"{value} got {answer}.")

    return Question(np.full((1, 1, 1), value, np.uint8), [expect])


def here(chunk) -> Answers:
    """A model that is wrong for every third value."""
    return Answers([int(p[0, 0, 0]) + 100 * (int(p[0, 0, 0]) % 3 == 0) for p in chunk])


def sentences(found) -> list[str]:
    return [one.sentence for one in found]


EXPECTED = [f"{n} got {n + 100}." for n in range(0, 150, 3)]


def test_faults_come_in_the_order_of_the_pictures():
    assert sentences(faults_of(map(question, range(150)), here, one_by_one)) == EXPECTED


@given(st.integers(1, 8))
def test_chunks_may_be_read_ahead(ahead):
    def late(chunks, here):
        kept = []
        for chunk in chunks:
            kept.append(here(chunk))
            if len(kept) == ahead:
                yield kept.pop(0)
        yield from kept

    assert sentences(faults_of(map(question, range(150)), here, late)) == EXPECTED


def test_what_other_hardware_objects_to_is_evaluated_again():
    """A wrong worker of another kind adds no fault; each of its objections costs one picture here."""
    again: list[int] = []

    def asked_again(chunk):
        again.extend(int(p[0, 0, 0]) for p in chunk)
        return here(chunk)

    def wrong(chunks, _):
        for chunk in chunks:
            rows = [255 if row % 5 == 0 else row for row in here(chunk).rows]
            yield Answers(rows, like=False)

    found = sentences(faults_of(map(question, range(150)), asked_again, wrong))
    assert found == EXPECTED
    assert again == [n for n in range(150) if n % 3 == 0 or n % 5 == 0]


def test_a_wrong_worker_of_the_same_kind_is_heard():
    def wrong(chunks, _):
        for chunk in chunks:
            yield Answers([255 for _ in chunk])

    assert len(sentences(faults_of(map(question, range(50)), here, wrong))) == 50


def test_a_chunk_of_large_pictures_is_short(monkeypatch):
    monkeypatch.setattr(evaluation, "CHUNK_BYTES", 5)
    sizes = []

    def noted(chunks, here):
        for chunk in chunks:
            sizes.append(len(chunk))
            yield here(chunk)

    assert sentences(faults_of(map(question, range(14)), here, noted)) == EXPECTED[:5]
    assert sizes == [6, 6, 2]


@pytest.mark.parametrize("alike", [True, False])
def test_pictures_and_files_keep_their_places(alike):
    def of_images(images):
        assert isinstance(images, np.ndarray) == (alike and files == 0)
        return np.array([[len(one), 0.0] for one in images])

    def of_files(files):
        return np.array([[len(one), 1.0] for one in files])

    model: Any = SimpleNamespace(probabilities=of_images, probabilities_of_files=of_files)
    pictures = [np.zeros((3 if alike else n + 1, 2, 1), np.uint8) for n in range(4)]
    for files in (0, 3):
        chunk: list[Any] = [*pictures[:2], *[b"x" * n for n in range(files)], *pictures[2:]]
        rows = evaluation.answers(model, chunk, random=False)
        assert [list(row) for row in rows] == [
            [len(one), float(isinstance(one, bytes))] for one in chunk
        ]
