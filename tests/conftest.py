"""Fixtures and settings of all tests: optional photographs, hypothesis profile, scratch folders."""

from __future__ import annotations

import gc
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings

from tests import forked

ROOT = Path(__file__).resolve().parents[1]

# Workers share the cores: more threads than cores only wait for one another, and those of OpenBLAS keep a
# core busy while they wait. TensorFlow, NumPy and PyTorch read these once, when they are imported.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
for variable in (
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
    *("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"),
):
    os.environ.setdefault(variable, str(max(1, (os.cpu_count() or 1) // WORKERS)))

# A full collection visits every object of TensorFlow, and hardly any object of a test lives that long.
gc.set_threshold(2000, 20, 50)

# No deadline: the first example of a process traces graphs, and machines may be busy.
settings.register_profile("toolkit", deadline=None)
settings.load_profile("toolkit")


def _data(name: str) -> Path:
    """The path of `name` in $ROBUSTNESS_TEST_DATA or the data folder; skip the test if it is missing."""
    folder = Path(os.environ.get("ROBUSTNESS_TEST_DATA") or ROOT.parent / "shared" / "data")
    path = folder / name
    if not path.exists():
        pytest.skip(f"{name} is not here; set ROBUSTNESS_TEST_DATA to the folder that holds it")
    return path


@pytest.fixture(scope="session")
def photos_archive() -> Path:
    """Kaggle's dogs-vs-cats.zip."""
    return _data("dogs-vs-cats.zip")


@pytest.fixture(scope="session")
def article_photos() -> Path:
    """A folder of a few photographs without labels."""
    return _data("article")


@pytest.fixture
def forked_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load models of unknown sizes for a trial in forks of a process that has TensorFlow imported."""
    from robustness.models.scan import limited_process

    forks = SimpleNamespace(
        run=forked.limited,
        DEVNULL=subprocess.DEVNULL,
        TimeoutExpired=subprocess.TimeoutExpired,
    )
    monkeypatch.setattr(limited_process, "subprocess", forks)


@pytest.fixture(scope="session", autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Put runs without a given folder, and the user's state, into folders that pytest removes."""
    os.environ["ROBUSTNESS_STATE"] = str(tmp_path_factory.mktemp("state"))
    usual, tempfile.tempdir = tempfile.tempdir, str(tmp_path_factory.mktemp("scratch"))
    yield
    tempfile.tempdir = usual
