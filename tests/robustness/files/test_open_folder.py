"""Tests of names and files within a run folder."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from robustness.errors import RunError
from robustness.files.open_folder import held, parts_of
from robustness.files.reading import read_in


@given(st.text("ab./\\:\0", max_size=8))
@example("/a")
@example("//a")
@example("a//./b/")
def test_a_name_is_split_as_by_pathlib(name):
    parts = PurePosixPath(name).parts
    leads_out = any(part in ("..", "/", "//") for part in parts)
    if not parts or leads_out or set(name) & set("\\:\0"):
        with pytest.raises(RunError, match="is not a file of this run"):
            parts_of(name)
    else:
        assert parts_of(name) == parts


def test_a_file_that_states_fewer_bytes_than_it_has_is_read_up_to_the_limit():
    if not Path("/proc/self/status").exists():
        pytest.skip("there is no file here that states 0 bytes and has more")
    with held(Path("/proc/self")) as place:
        assert read_in(place, "status", 1 << 20).startswith(b"Name:")
        with pytest.raises(RunError, match="status has 9 bytes; expected at most 8"):
            read_in(place, "status", 8)
