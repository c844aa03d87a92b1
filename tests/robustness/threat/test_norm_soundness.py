"""A norm that breaks its contract is refused before an audit, by the method that breaks it."""

import dataclasses
from typing import Any, cast

import numpy as np
import pytest
from keras import ops

import robustness
from robustness.errors import SettingError
from robustness.images.entries import Entry
from robustness.runs.records import ImageRow, OutcomeRow
from robustness.testing import check_norm
from robustness.threat import norms
from robustness.threat.norms import NORMS
from robustness.threat.norms.registry import COLUMNS_OF_TABLES
from robustness.threat.threat import Threat
from tests.robustness.helpers import small_cnn
from tests.robustness.threat.luminance import LuminanceL2 as Sound


def raises(*_):
    raise ValueError("of its own")


def alters(norm, before, after):
    after[...] = 0
    return Sound.distance(norm, before, after)


NAN = float("nan")
FAULTS = {
    "distance raises": ({"distance": raises}, "failed in `distance`: ValueError: of its own"),
    "distance is NaN": (
        {"distance": lambda *_: NAN},
        "returned nan from `distance`; expected a finite",
    ),
    "distance is negative": ({"distance": lambda *_: -1.0}, "returned -1.0 from `distance`"),
    "distance is text": ({"distance": lambda *_: "3"}, "returned '3' from `distance`"),
    "distance alters pictures": (
        {"distance": alters},
        "failed in `distance`: ValueError: .*read-only",
    ),
    "distance is constant": (
        {"distance": lambda *_: 1.0},
        "`distance` of equal pictures is 1; expected 0",
    ),
    "half a recount": (
        {"recount": lambda s, a, b: Sound.recount(s, a, b) / 2},
        "`recount` is .* where `distance` is",
    ),
    "half a size": (
        {"size": lambda s, d: Sound.size(s, d) / 2},
        "`size` is .* where `distance` is",
    ),
    "one size": (
        {"size": lambda s, d: ops.max(d)},
        r"`size` returns the shape \(\); expected \(6,\)",
    ),
    "largest": ({"largest": lambda *_: 3.0}, "`largest` is 3, but two pictures are"),
    "effective": ({"effective": lambda s, e: 3 * e}, "`effective` is .* for the budget"),
    "is_small": ({"is_small": lambda *_: "no"}, "`is_small` is 'no'; expected True or False"),
    "no projection": (
        {"project": lambda s, d, *_: d},
        "`project` returns a change of the size .* budget",
    ),
    "projection to 0": (
        {"project": lambda s, d, *_: 0 * d},
        "`project` moves a change that is within",
    ),
    "projection of NaN": (
        {"project": lambda s, d, *_: NAN * d},
        "`project` returns numbers that are not",
    ),
    "downhill": ({"steepest": lambda s, g: -Sound.steepest(s, g)}, "`steepest` changes .* by -"),
    "too steep": (
        {"steepest": lambda s, g: 2 * Sound.steepest(s, g)},
        "`steepest` .* size 2; expected 1",
    ),
    "far samples": (
        {"sample": lambda s, k, r, shape: 50 * Sound.sample(s, k, r, shape)},
        "`sample` returns a change of the size",
    ),
    "no samples": (
        {"sample": lambda s, k, r, shape: ops.zeros((6, *shape))},
        "`sample` returns no change",
    ),
    "no grid": (
        {"to_grid": lambda s, d, *_: d},
        "`to_grid` returns changes that are not whole counts",
    ),
    "no label": ({"label": None}, "`label` is None; expected a text"),
    "another place": ({"meaning": "at most {x}"}, "`meaning` is 'at most {x}'; expected {0}"),
    "another column": ({"column": "linf"}, "`column` is 'linf'; expected the name of the norm"),
}


@pytest.mark.parametrize(("parts", "sentence"), FAULTS.values(), ids=FAULTS)
def test_the_method_at_fault_is_named(parts, sentence):
    norm = type("Faulty", (Sound,), parts)()
    with pytest.raises(SettingError, match=sentence) as error:
        check_norm(norm)
    assert str(error.value).startswith("The norm 'l2-luma' (")


@pytest.mark.parametrize("norm", [*NORMS.values(), Sound], ids=[*NORMS, "luma"])
def test_sound_norms_pass(norm):
    check_norm(norm)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 4])
def test_built_in_norms_take_other_channels(channels):
    for norm in NORMS.values():
        check_norm(norm, channels=channels)


def test_a_threat_with_a_faulty_norm_is_not_possible():
    """`robustness fit` goes this way too."""
    parts, sentence = FAULTS["no projection"]
    with pytest.raises(SettingError, match=sentence):
        faulty = type("Faulty", (Sound,), cast("dict[str, Any]", parts))()
        Threat((4.0,), faulty).expect_possible((8, 8, 3))
    Threat((4.0,), Sound()).expect_possible((8, 8, 3))


def test_what_is_no_norm_is_refused():
    with pytest.raises(SettingError, match="check_norm got 'l2'; expected a"):
        check_norm(cast("norms.Norm", "l2"))


def test_an_audit_refuses_a_faulty_norm_before_it_attacks(monkeypatch, tmp_path):
    """Without the check every file is refused by the judge, and the model looks robust."""
    monkeypatch.setattr(norms.registry, "KNOWN", dict(norms.KNOWN))
    norms.register(type("Faulty", (Sound,), {"name": "l2-faulty", "project": lambda s, d, *_: d})())
    images = np.full((2, 12, 12, 3), 90, np.uint8)
    with pytest.raises(SettingError, match=r"'l2-faulty' .*`project` returns a change of the size"):
        robustness.audit(
            small_cnn(9),
            images,
            norm="l2-faulty",
            epsilons=[900],
            attacks="pgd",
            out=tmp_path / "run",
        )


def test_no_norm_has_the_name_of_another_column():
    tables = {field.name for row in (OutcomeRow, ImageRow) for field in dataclasses.fields(row)}
    tables |= {*Entry._fields, "height", "width", "upload", "reached"}
    words = {name for name in tables if name.isalpha()} - set(NORMS)
    assert words <= COLUMNS_OF_TABLES
    with pytest.raises(SettingError, match="'status', which is that of another column"):
        norms.register(type("Status", (Sound,), {"name": "status"})())
