"""Tests of the times of stages: they add up to the wall clock, and runs record them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import robustness
from robustness.cli.result import times
from robustness.runs import stage_times
from robustness.runs.progress import Progress
from robustness.runs.schema import Manifest, Timing
from robustness.runs.stage_times import StageTimes
from robustness.runs.store import Run
from tests.robustness.helpers import small_cnn


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(stage_times, "time", clock)
    return clock


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1000)), max_size=20))
def test_stages_add_up_to_the_wall_clock(parts):
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage_times, "time", clock)
        stages = StageTimes()
        for stage, seconds in parts:
            stages.start(stage)
            clock.now += seconds
        assert sum(stages.seconds.values()) == clock.now
        stages.stop()
        clock.now += 7
        expected: dict[str, float] = {}
        for stage, seconds in parts:
            expected[stage] = expected.get(stage, 0) + seconds
        assert stages.seconds == expected
        assert list(stages.seconds) == list(expected)


def test_a_resumed_run_adds_its_times_to_those_recorded(clock):
    stages = StageTimes().start("loading")
    clock.now = 4.0
    stages.start("attack pgd")
    clock.now = 10.0
    before = Timing(seconds=8.0, stages={"loading": 3.0, "attack fgsm": 5.0})
    after = stages.timing(before)
    assert after.seconds == 18.0
    assert dict(after.stages) == {"loading": 7.0, "attack fgsm": 5.0, "attack pgd": 6.0}


def test_runs_of_earlier_versions_have_no_stages():
    timing = Manifest.model_validate({"timing": {"seconds": 3.0}}).timing
    assert times(timing) == "time: 3 s"
    assert times(Timing()) == ""
    assert timing.to_json() == {"seconds": 3.0}


def test_the_time_that_is_printed_includes_reports_and_lists_long_stages():
    stages = {"loading": 8.2, "clean pass": 0.1, "attack pgd(steps=40)": 70.0, "reports": 2.0}
    assert times(Timing(seconds=78.3, stages=stages)) == (
        "time: 1 min 20 s (loading 8 s, pgd(steps=40) 1 min 10 s, reports 2 s)"
    )


@pytest.mark.slow
def test_a_run_records_every_stage_and_the_reports_when_they_are_written(tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (4, 12, 12, 3)).astype(np.uint8)
    result = robustness.audit(small_cnn(4), images, attacks=["fgsm"], out=tmp_path / "run")
    before = result._manifest
    timing = before.timing
    names = ("loading", "checks before the attack", "clean pass", "attack fgsm(steps=1)")
    assert tuple(timing.stages) == (*names, "step pictures", "diagnostics")
    assert timing.seconds == pytest.approx(sum(timing.stages.values()), abs=0.01)
    stage_times.record_reports(result.path, 1.5)
    with Run.open(result.path) as run:
        assert run.manifest.timing.stages["reports"] == 1.5
        assert run.manifest.timing.seconds == timing.seconds
        assert run.manifest.with_changes(timing=timing) == before


def test_an_interrupted_run_records_its_times_and_the_resumed_one_adds_to_them(tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (4, 12, 12, 3)).astype(np.uint8)
    model, folder = small_cnn(4), tmp_path / "run"

    def interrupt(progress: Progress) -> None:
        if progress.stage.startswith("fgsm"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        robustness.audit(model, images, attacks=["fgsm"], out=folder, progress=interrupt)
    with Run.open(folder) as run:
        before = run.manifest.timing
    assert list(before.stages)[-1] == "attack fgsm(steps=1)"
    result = robustness.audit(model, images, attacks=["fgsm"], out=folder, resume=True)
    after = result._manifest.timing
    assert after.stages["loading"] > before.stages["loading"]
    assert after.seconds is not None and before.seconds is not None
    assert after.seconds > before.seconds
    assert after.seconds == pytest.approx(sum(after.stages.values()), abs=0.02)
