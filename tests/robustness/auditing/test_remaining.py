"""What an attack has to do, found from columns, against a loop over rows."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.auditing.remaining import remaining
from robustness.errors import RunError
from robustness.runs.cells import expect_cells, fit
from robustness.runs.image_columns import BEFORE_ATTACK
from robustness.runs.records import FLIPPED, ImageRow, OutcomeRow, data_digest, status_before_attack
from robustness.runs.schema import Manifest
from robustness.runs.store import Run

IMAGES = st.lists(
    st.builds(
        ImageRow,
        key=st.just(""),
        position=st.just(0),
        name=st.just(""),
        label=st.none() | st.integers(0, 2),
        clean_class=st.none() | st.integers(0, 2),
        reason=st.sampled_from(["", "it changes"]),
    ),
    max_size=8,
)


@pytest.mark.slow
@given(IMAGES)
def test_statuses_of_the_table_are_those_of_rows(rows):
    with (
        tempfile.TemporaryDirectory() as folder,
        Run.create(Path(folder) / "run", Manifest()) as run,
    ):
        run.add([replace(row, key=str(n), position=n) for n, row in enumerate(rows)])
        columns = run.image_columns()
    found = {k: BEFORE_ATTACK[n] for k, n in zip(columns.keys, columns.statuses, strict=True)}
    assert found == {str(n): status_before_attack(row) or "" for n, row in enumerate(rows)}


def test_remaining_work_is_that_of_a_loop_over_rows(tmp_path):
    random = np.random.default_rng(0)
    with Run.create(tmp_path / "run", Manifest()) as run:
        for n in random.permutation(60).tolist():
            seen = random.random() < 0.9
            label, shown = (int(random.integers(2)) for _ in range(2))
            reason = "" if seen and random.random() < 0.8 else "unsteady"
            image = ImageRow(
                key=f"{n:02d}",
                position=n,
                name="",
                label=label,
                digest=f"{n:x}",
                clean_class=shown if seen else None,
                confidence=round(random.random(), 1) if seen else None,
                reason=reason,
            )
            outcomes = [
                OutcomeRow(image=image.key, attack="bim", epsilon=e, status=FLIPPED)
                for e in (1.0, 2.0)[: int(random.integers(3))]
            ]
            run.add([image, *outcomes])
        standing = {f"{n:02d}": n % 3 for n in range(0, 60, 2)}
        settled, rows = run.settled("bim", 2), list(run.image_rows())
        found = remaining(run, "bim", 2, standing)
        assert 0 < found.done == len(settled) < 60
        assert sorted(found.attacked) == [
            row.key for row in rows if not status_before_attack(row) and standing.get(row.key) != 0
        ]
        left = [
            (row, status_before_attack(row) or ("settled" if standing.get(row.key) == 0 else ""))
            for row in rows
            if row.key not in settled
        ]
        spared = zip(found.spared, found.statuses, strict=True)
        assert list(spared) == [(row, status) for row, status in left if status]
        hardest_first = sorted(left, key=lambda pair: -(pair[0].confidence or 0.0))
        assert list(found.to_attack) == [row for row, status in hardest_first if not status]
        assert run.data_digest() == data_digest((row.key, row.digest) for row in rows)


CELLS = st.none() | st.integers(-(2**54), 2**54) | st.floats() | st.sampled_from(["", "a", b"a"])


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=4))
def test_what_fits_for_sure_passes_the_check_of_every_cell(rows):
    names = ("epsilon", "adversarial_class", "forward")
    # SQLite stores NaN as an empty cell.
    rows = [tuple(None if cell != cell else cell for cell in row) for row in rows]  # noqa: PLR0124
    for place, name in enumerate(names):
        column = [(row[place],) for row in rows]
        if fit(OutcomeRow, pd.DataFrame(column, columns=[name])):
            expect_cells(OutcomeRow, column, [name])


def test_usual_cells_fit_for_sure_and_wrong_ones_do_not():
    usual = pd.DataFrame({"image": ["a", "b"], "epsilon": [1.0, 2.5], "l0": [3.0, None]})
    assert fit(OutcomeRow, usual)
    wrong: dict[str, list[object]] = {
        "image": ["a", None],
        "epsilon": [1.0, -1.0],
        "l0": [2.5, 1.0],
    }
    for name, cells in wrong.items():
        assert not fit(OutcomeRow, pd.DataFrame({name: cells}))
        with pytest.raises(RunError, match=name):
            expect_cells(OutcomeRow, [(cell,) for cell in cells], [name])
