"""Scalings by numbers: what is written is what is computed, and what can be misread is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.configuration import choices
from robustness.configuration.audit_config import AuditConfig
from robustness.configuration.audit_file import read_audit_file
from robustness.configuration.scaling_text import parse_numbers, plain_text, text_of
from robustness.errors import SettingError
from robustness.models.scalings import SCALINGS, Scaling, parse_scaling
from robustness.models.scalings import text_of as text_of_scaling

COUNTS = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 3)).astype("float64")
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.mark.parametrize(
    ("text", "closed_form"),
    [
        ("mean=0.485/0.456/0.406,std=0.229/0.224/0.225,of=0..1", lambda x: (x / 255 - MEAN) / STD),
        ("mean=0.485,0.456,0.406,std=0.229,0.224,0.225,of=0..1", lambda x: (x / 255 - MEAN) / STD),
        (
            "mean=[0.406/0.456/0.485],std=0.225/0.224/0.229,of=0..1,order=bgr",
            lambda x: (x[..., ::-1] / 255 - MEAN[::-1]) / STD[::-1],
        ),
        ("mean=123.5,std=58,of=0..255", lambda x: (x - 123.5) / 58),
        ("of=0..255,mean=103.9/116.8/123.7,order=BGR", lambda x: x[..., ::-1] - [103.9, 116.8, 123.7]),
        ("divide=127.5,offset=-1", lambda x: x / 127.5 - 1),
        ("multiply=2/3/4", lambda x: x * [2, 3, 4]),
        ("offset=-1", lambda x: x - 1),
        ("order=BGR", lambda x: x[..., ::-1]),
    ],
)  # fmt: skip
def test_numbers_against_their_closed_form(text, closed_form):
    scaling = parse_scaling(text)
    np.testing.assert_allclose(np.asarray(scaling.apply(COUNTS)), closed_form(COUNTS), 1e-5, 1e-5)
    again = parse_scaling(scaling.name)
    assert again == scaling, "the name of a scaling by numbers gives the same numbers"
    assert parse_scaling(text_of_scaling(scaling)).multiply == scaling.multiply


def test_a_table_and_a_text_are_one():
    table = {"mean": [0.485, 0.456, 0.406], "std": np.array([0.229, 0.224, 0.225]), "of": "0..1"}
    text = "mean=0.485/0.456/0.406,std=0.229/0.224/0.225,of=0..1"
    assert plain_text(table) == text == AuditConfig(scaling=table).scaling
    assert parse_scaling(table) == parse_scaling(text)
    torch = SCALINGS["torch"]
    assert (parse_scaling(text).multiply, parse_scaling(text).offset) == (
        torch.multiply,
        torch.offset,
    )


def test_each_channel_is_named_in_the_sentence():
    said = parse_scaling("mean=103.9/116.8/123.7,of=0..255,order=BGR").sentence
    assert "swapped to BGR" in said
    assert "blue: (count - 103.9) / 1; green: (count - 116.8) / 1; red: (count - 123.7)" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mean=0.5,std=0.5", "`of` of the scaling is missing; expected of=0..1 .* of=0..255"),
        ("mean=0.5,std=0.5,of=1", "`of` of the scaling is '1'"),
        ("mean=124,std=58,of=0..1", "none above 1. Expected of=0..255"),
        ("mean=0.5,std=0.5,of=0..255", "all images would be black. Expected of=0..1"),
        ("multiply=1/255", "two numbers.*write multiply=0.00392156862745098"),
        ("mean=1/2/3/4,of=0..255", "is '1/2/3/4'; expected one finite number, or three"),
        ("mean=x,of=0..1", "mean of the scaling is 'x'"),
        ("mean=nan,of=0..255", "mean of the scaling is 'nan'"),
        ("mean=120,std=0,of=0..255", "std of the scaling is 0; expected numbers above 0"),
        ("divide=0", "divides or multiplies by 0"),
        ("divide=255,multiply=2", "both multiply and divide"),
        ("mean=120,of=0..255,offset=1", "also offset"),
        ("divide=255,of=0..1", "neither of these"),
        ("mena=1", "no key 'mena'.*Did you mean mean"),
        ("divide=255,divide=2", "divide twice"),
        ("divide=255,order=RBG", "'RBG' is not known; expected RGB or BGR"),
        ("0-1", "is not known; expected one of 0..255.*Did you mean 0..1"),
        ("5,mean=1", "begins with '5'"),
    ],
)
def test_what_can_be_misread_is_refused(text, said):
    with pytest.raises(SettingError, match=said):
        parse_numbers(text)


NUMBER = st.floats(-1e6, 1e6, allow_nan=False).filter(lambda x: abs(x) > 1e-6)


@given(
    st.lists(NUMBER, min_size=3, max_size=3) | st.lists(NUMBER, min_size=1, max_size=1),
    st.lists(NUMBER, min_size=3, max_size=3) | st.lists(NUMBER, min_size=1, max_size=1),
    st.sampled_from(["RGB", "BGR"]),
)
def test_numbers_survive_their_text_to_the_bit(multiply, offset, order):
    found = parse_numbers(text_of(multiply, offset, order))
    assert (found.multiply, found.offset, found.order) == (tuple(multiply), tuple(offset), order)


def test_known_scalings_have_short_texts():
    texts = {
        "0..255": "divide=1", "0..1": "divide=255", "-1..1": "divide=127.5,offset=-1",
        "caffe": "divide=1,offset=-103.939/-116.779/-123.68,order=BGR",
    }  # fmt: skip
    for name, text in texts.items():
        one = SCALINGS[name]
        assert text_of(one.multiply, one.offset, one.order) == text
        assert parse_scaling(text).offset == one.offset


def test_statistics_of_a_file(tmp_path):
    def written(content) -> str:
        (tmp_path / "stats.json").write_text(json.dumps(content))
        return str(tmp_path / "stats.json")

    one = written({"mean": [120.5, 110, 100], "std": [60, 61, 62]})
    assert plain_text(one) == "mean=120.5/110/100,std=60/61/62,of=0..255"
    assert (
        plain_text(written({"mean": [[[0.5]]], "variance": [[[0.0625]]]}))
        == "mean=0.5,std=0.25,of=0..1"
    )
    both = written({"mean": 0.5, "std": 0.25, "of": "0..1", "order": "BGR"})
    assert plain_text(both) == "mean=0.5,std=0.25,of=0..1,order=BGR"
    assert plain_text(f"{both},order=RGB") == "mean=0.5,std=0.25,of=0..1"
    np.savez(tmp_path / "stats.npz", mean=np.array([120.0, 110, 100]), std=np.full(3, 60.0))
    assert plain_text(tmp_path / "stats.npz") == "mean=120/110/100,std=60/60/60,of=0..255"
    with pytest.raises(SettingError, match=r"does not say of which range; write .*of=0..1 or"):
        plain_text(written({"mean": 0.0, "std": 1.0}))
    for content, said in (
        ({"mean": 1}, "has no std"),
        ([1], "holds list"),
        ({"mean": "x", "std": 1}, "'x'"),
    ):
        with pytest.raises(SettingError, match=said):
            plain_text(written(content))


def test_a_file_is_read_within_limits_and_unpickles_nothing(tmp_path):
    np.savez(tmp_path / "big.npz", mean=np.zeros(1_000_000), std=np.ones(3))
    np.savez(tmp_path / "objects.npz", mean=np.array([{}], object), std=np.ones(3))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "folder.json").mkdir()
    for name in ("big.npz", "objects.npz", "broken.json", "folder.json", "missing.json"):
        with pytest.raises(SettingError, match="cannot be read"):
            plain_text(tmp_path / name)


def test_the_configuration_file_takes_a_text_a_table_or_a_file_beside_it(tmp_path):
    (tmp_path / "stats.json").write_text('{"mean": 120, "std": 60}')
    wanted = "mean=120,std=60,of=0..255"
    for value in (
        f'"{wanted}"',
        '{mean = 120, std = 60, of = "0..255"}',
        '"stats.json"',
        '{file="stats.json"}',
    ):
        (tmp_path / "audit.toml").write_text(f"[model]\nscaling = {value}\n")
        assert read_audit_file(tmp_path / "audit.toml").scaling == wanted
    (tmp_path / "audit.toml").write_text("[model]\nscaling = {mean = 120}\n")
    with pytest.raises(
        SettingError, match=r"audit\.toml: model\.scaling .*`of` of the scaling is missing"
    ):
        read_audit_file(tmp_path / "audit.toml")


def test_names_are_those_of_the_models():
    assert tuple(SCALINGS) == choices.SCALINGS
    assert parse_scaling("0..1") == SCALINGS["0..1"]
    given = Scaling("mine", (2.0,), (1.0,))
    assert parse_scaling(given) is given is AuditConfig(scaling=given).scaling
