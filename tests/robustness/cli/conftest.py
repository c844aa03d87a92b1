"""Audits of equal models share their compiled functions."""

from __future__ import annotations

import pytest

from tests.shared_graphs import shared_graphs

__all__ = ["shared_graphs"]


@pytest.fixture(scope="module", autouse=True)
def sharing(shared_graphs: object) -> None:
    """Trace equal functions once in each module of this folder."""
