"""The process that tests fork imports what it names."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from tests import forked


@pytest.mark.parametrize("name", forked.PRELOADED)
def test_preloaded_module_exists(name):
    """A module that is missing is skipped silently, and each command then imports it anew."""
    assert find_spec(name)
