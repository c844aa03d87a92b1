"""Tests of the parts of a task that attacks compute with."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from robustness.attacks import where_rows

WHICH = np.array([True, False, True])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((3,), (3,)),
        ((3, 2), (3, 2)),
        ((3, 4, 4, 1), (3, 4, 4, 1)),
        ((3, 5, 4, 4, 1), (3, 1, 4, 4, 1)),
    ],
)
def test_rows_are_taken_whole(one, other):
    random = np.random.default_rng(0)
    first, second = random.normal(size=one), random.normal(size=other)
    taken = ops.convert_to_numpy(where_rows(ops.convert_to_tensor(WHICH), first, second))
    wide = np.broadcast_to(second, taken.shape)
    for row, (chosen, expected) in enumerate(
        zip(WHICH, zip(first, wide, strict=True), strict=True)
    ):
        np.testing.assert_array_equal(taken[row], expected[0 if chosen else 1].astype(taken.dtype))


def test_states_have_the_names_of_the_other():
    point = np.arange(6.0, dtype="float32").reshape(3, 2)
    taken = where_rows(
        ops.convert_to_tensor(WHICH), {"point": point, "more": point}, {"point": -point}
    )
    assert list(taken) == ["point"]
    np.testing.assert_array_equal(
        ops.convert_to_numpy(taken["point"]), np.where(WHICH[:, None], point, -point)
    )
