"""Tests of all readers of untrusted files: damaged and hostile files give a one-sentence error."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import struct
import sys
import zipfile
import zlib
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustness import plugins
from robustness.configuration import toml
from robustness.errors import ImagesError, RobustnessError, RunError, SettingError
from robustness.files import bounded, npy
from robustness.images import open_source
from robustness.images.decode import decode
from robustness.images.entries import Unreadable
from robustness.images.png import MAX_SIDE, from_png
from robustness.runs.result import AuditResult
from robustness.threat.mask import Mask

SCRIPT = Path(__file__).parents[3] / "scripts" / "fuzz_readers.py"
spec = importlib.util.spec_from_file_location("fuzz_readers", SCRIPT)
assert spec is not None and spec.loader is not None
fuzz = importlib.util.module_from_spec(spec)
sys.modules["fuzz_readers"] = fuzz
spec.loader.exec_module(fuzz)

few = settings(
    max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@pytest.mark.parametrize("name", fuzz.READERS)
def test_valid_files_are_read(name):
    """The fuzzer would find nothing if it started from files that no reader accepts."""
    assert any(fuzz.read(name, data) for data in fuzz.seeds(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", fuzz.READERS)
@few
@given(data=st.data())
def test_damaged_files_are_refused(name, data):
    seed = bytearray(data.draw(st.sampled_from(fuzz.seeds(name))))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(0, len(seed) - 1)))
        change = data.draw(
            st.sampled_from(("flip", "cut", "insert", "extreme", "repeat")), label="change"
        )
        if change == "flip" and seed:
            seed[place] ^= 1 << data.draw(st.integers(0, 7))
        elif change == "cut":
            del seed[place : place + data.draw(st.integers(1, 40))]
        elif change == "insert":
            seed[place:place] = data.draw(st.binary(max_size=20))
        elif change == "extreme":
            seed[place : place + 4] = data.draw(
                st.sampled_from((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"[[[["))
            )
        else:
            seed[place:place] = seed[place : place + 30] * 3
    fuzz.read(name, bytes(seed))  # other errors than the reader's own propagate


@pytest.mark.parametrize("name", fuzz.READERS)
@few
@given(noise=st.binary(max_size=300))
def test_random_bytes_are_refused(name, noise):
    fuzz.read(name, noise)


# --- JSON and TOML


DEEP = 3000


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * DEEP + "]" * DEEP,
        "a = " + "{b=" * DEEP + "1" + "}" * DEEP,
        ".".join(["a"] * DEEP) + " = 1",
        ". ".join(['"a"'] * DEEP) + " = 1",
        "[" + ".".join(["a"] * DEEP) + "]",
        "[[" + ".".join(["a"] * DEEP) + "]]",
    ],
)
def test_toml_nested_too_deeply_is_refused(tmp_path, text):
    path = tmp_path / "audit.toml"
    path.write_text(text)
    with pytest.raises(
        SettingError, match=r"audit\.toml is not valid TOML: .*nested deeper than 100"
    ):
        toml.read(path)


def test_toml_within_the_limit_is_read(tmp_path):
    path = tmp_path / "audit.toml"
    path.write_text("a = " + "[" * 90 + "]" * 90 + "\n[b.c.d.e.f]\ng = 1\n")
    assert toml.read(path).section("b").section("c") is not None


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[" * DEEP + "]" * DEEP, "nested deeper"),
        ('{"a":' * DEEP + "1" + "}" * DEEP, "nested deeper"),
        ("[" * 101 + "]" * 101, "nested deeper"),
        ("[NaN]", "not finite"),
        ("[-Infinity]", "not finite"),
        ("[1e999]", "not finite"),
        ("[" + "1," * 2000 + "1]", "more than 1,000 values"),
        ('"' + "x" * 5000 + '"', "larger than 4,000 bytes"),
        ("1" * 4999, "larger than 4,000 bytes"),
        ("{", "Expecting"),
        ("", "Expecting"),
    ],
)
def test_json_beyond_a_limit_is_refused(text, word):
    limit = 4000 if "larger" in word else 1 << 20
    with pytest.raises(ValueError, match=word):
        bounded.parse_json(text, max_bytes=limit, max_values=1000 if "values" in word else 10**6)


def test_json_within_the_limits_matches_the_json_module():
    text = json.dumps({"a": [1, 2.5, None, True, "x"], "b": {"c": []}})
    assert bounded.parse_json(text) == json.loads(text)
    assert bounded.parse_json("[" * 100 + "]" * 100)
    assert np.isnan(bounded.parse_json("NaN", finite=False))


@pytest.mark.slow
def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises((ValueError, OSError), match=r"regular file|directory"):
            bounded.read_text_bounded(path)
    (tmp_path / "large").write_bytes(b"x" * 101)
    with pytest.raises(ValueError, match="larger than 100 bytes"):
        bounded.read_text_bounded(tmp_path / "large", 100)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(20 << 30)
    with pytest.raises(ValueError, match="larger than"):
        bounded.read_text_bounded(tmp_path / "sparse")


def test_a_baseline_that_is_not_json_is_refused(tmp_path):
    from robustness.reports.comparison.sides import read_side
    from robustness.reports.gate.gate_file import baseline

    for text in ("[" * DEEP + "]" * DEEP, "[NaN]", "[]", "\x00", '{"summary": []}'):
        path = tmp_path / "report.json"
        path.write_text(text)
        for read in (baseline, read_side):
            with pytest.raises(RobustnessError, match=r"report\.json"):
                read(path)


# --- arrays


def npz_of(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


def npy_of(shape, descr="|u1", order=False, data=b"", version=1) -> bytes:
    head = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape!r}, }}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(head))
    return b"\x93NUMPY" + bytes((version, 0)) + size + head + data


CLAIMS = {
    "74 GB": npy_of((1000, 5000, 5000, 3), data=b"x" * 64),
    "2**62": npy_of((2**62, 1, 1, 1)),
    "overflow": npy_of((2**40, 2**40, 2**40, 3)),
    "negative": npy_of((-1, 4, 4, 3), data=b"x" * 48),
    "0-d": npy_of((), data=b"x"),
    "1-d": npy_of((48,), data=b"x" * 48),
    "empty": npy_of((0, 4, 4, 3)),
    "objects": npy_of((1,), "|O", data=b"x" * 8),
    "records": npy_of((1, 4, 4, 3), [("a", "|u1")], data=b"x" * 48),
    "no width": npy_of((10**9, 4, 4, 3), "<U0"),
    "wide texts": npy_of((1, 1, 1, 1), "<U1000000000", data=b"x" * 8),
    "short": npy_of((1, 4, 4, 3), data=b"x" * 47),
    "version": npy_of((1, 4, 4, 3), data=b"x" * 48, version=3),
    "no magic": b"x" * 200,
    "nothing": b"",
    "half a header": npy_of((1, 4, 4, 3))[:30],
    "a program": b"\x93NUMPY\x01\x00\x40\x00"
    + b"__import__('os').system('true')".ljust(63)
    + b"\n",
    "deep": b"\x93NUMPY\x02\x00" + struct.pack("<I", 9000) + b"(" * 9000,
    "very deep": b"\x93NUMPY\x02\x00" + struct.pack("<I", 10**6) + b"(" * 10**6,
    "shape of bools": npy_of((True, 4, 4, 3), data=b"x" * 48),
    "shape of texts": npy_of(("1", 4, 4, 3), data=b"x" * 48),
    "fortran": npy_of((1, 4, 4, 3), order=True, data=b"x" * 48),
    "a million images": npy_of((10**6 + 1, 1, 1, 1), data=b"x" * (10**6 + 1)),
}


@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.parametrize("packed", [False, True])
def test_an_array_with_missing_data_is_refused(tmp_path, name, packed):
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else 0) as archive:
        archive.writestr("images.npy", CLAIMS[name])
    with pytest.raises(ImagesError, match=r"data\.npz|data:|shape|images"):
        open_source(path)


@pytest.mark.parametrize("name", sorted(set(CLAIMS) - {"1-d", "a million images"}))
@pytest.mark.parametrize("which", ["labels", "class_names"])
def test_damaged_labels_and_names_are_refused(tmp_path, name, which):
    images = npy_of((1, 4, 4, 3), data=b"x" * 48)
    path = npz_of(tmp_path / "data.npz", images=images, **{which: CLAIMS[name]})
    with pytest.raises(ImagesError):
        open_source(path)


@pytest.mark.parametrize("codes", [b"\xff\xff\x11\x00", b"\x00\xd8\x00\x00"])
def test_texts_that_are_not_unicode_are_refused(tmp_path, codes):
    images = npy_of((1, 4, 4, 3), data=b"x" * 48)
    broken = npy_of((1,), "<U1", data=codes)
    path = npz_of(tmp_path / "data.npz", images=images, class_names=broken)
    with pytest.raises(ImagesError, match="no Unicode"):
        open_source(path)


def test_a_central_directory_with_wrong_sizes_is_refused(tmp_path):
    """A stored member whose directory entry, zip64 or not, claims more bytes than the file has."""
    whole = npz_of(tmp_path / "data.npz", images=npy_of((10**6, 100, 100, 3), data=b"x" * 64))
    data = bytearray(whole.read_bytes())
    place = data.index(b"PK\x01\x02")
    data[place + 20 : place + 28] = struct.pack("<II", 2**32 - 2, 2**32 - 2)
    whole.write_bytes(data)
    with pytest.raises(ImagesError, match=r"longer than it is|cannot be read"):
        open_source(whole)


def test_several_arrays_of_one_name_are_refused(tmp_path):
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", CLAIMS["short"])
        archive.writestr("images", CLAIMS["short"])
    with pytest.raises(ImagesError, match="one name"):
        open_source(path)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(48, dtype=">u2").reshape(1, 4, 4, 3),
        np.arange(48, dtype=">f8").reshape(1, 4, 4, 3),
        np.arange(48, dtype="int64").reshape(1, 4, 4, 3),
        np.ones((2, 4, 4, 1), "uint8"),
    ],
)
def test_valid_arrays_are_read_as_by_numpy(tmp_path, array):
    np.savez(tmp_path / "data.npz", images=array)
    source = open_source(tmp_path / "data.npz")
    picture = source.read(source.entries()[0], array.shape[1:])
    np.testing.assert_array_equal(picture.pixels, array[0])
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(npy.read_npy(tmp_path / "a.npy"), array)
    np.save(tmp_path / "f.npy", np.asfortranarray(array))
    np.testing.assert_array_equal(npy.read_npy(tmp_path / "f.npy"), array)


def test_an_archive_with_a_huge_central_directory_is_refused(tmp_path):
    """The number in the end record is limited before `zipfile` creates an object for each entry."""
    path = tmp_path / "data.zip"
    many = (128 << 20) // 46 + 10
    with path.open("wb") as file:
        file.write(b"PK\x01\x02" + b"\0" * 42)
        file.truncate(many * 46)
        file.seek(0, os.SEEK_END)
        file.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, many * 46, 0, 0))
    with pytest.raises(ImagesError, match="lists its files in"):
        open_source(path)


def test_a_member_without_a_name_is_skipped(tmp_path):
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", b"")
        archive.writestr("a.png", fuzz.seeds("png")[0])
    data = path.read_bytes()
    place = data.index(b"PK\x01\x02")
    at = place + 28
    cut = bytearray(data[:at] + b"\0\0" + data[at + 2 : place + 46] + data[place + 47 :])
    end = cut.rindex(b"PK\x05\x06")
    size = struct.unpack_from("<L", cut, end + 12)[0]
    struct.pack_into("<L", cut, end + 12, size - 1)
    path.write_bytes(cut)
    assert [entry.name for entry in open_source(path).entries()] == ["a.png"]


# --- lists


@pytest.mark.parametrize(
    "data",
    [
        b"path,label\n" + b"a" * 200_000 + b",1\n",
        b"path,label\n\xff\xfe\x00,1\n",
        b"\xff\xfep\x00a\x00t\x00h\x00",
        b"\x00\x01\x02" * 100,
        b'path,label\n"a.png,1\n' + b"x" * 200_000,
        b"",
    ],
)
def test_an_invalid_list_is_refused(tmp_path, data):
    path = tmp_path / "list.csv"
    path.write_bytes(data)
    with pytest.raises(ImagesError, match=r"list\.csv"):
        open_source(path)


def test_a_list_of_gigabytes_is_refused(tmp_path):
    path = tmp_path / "list.csv"
    with path.open("wb") as file:
        file.write(b"path,label\n")
        file.truncate(1 << 30)
    with pytest.raises(ImagesError, match="larger than"):
        open_source(path)


# --- pictures


def png_of(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    lines = zlib.compress(b"\0" * (height * (width + 1)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


@pytest.mark.slow
@pytest.mark.parametrize(
    "size", [(1, 49_000_000), (49_000_000, 1), (MAX_SIDE + 1, 1), (1, MAX_SIDE + 1), (8000, 8000)]
)
def test_a_picture_beyond_the_limits_is_not_decoded(tmp_path, size):
    data = png_of(*size)
    with pytest.raises(Unreadable, match="at most"):
        decode(data, "x.png", (8, 8, 3))
    with pytest.raises(ValueError, match="at most"):
        from_png(data)
    (tmp_path / "mask.png").write_bytes(data)
    with pytest.raises(SettingError, match="at most"):
        Mask.of(tmp_path / "mask.png", (8, 8, 3))


@pytest.mark.parametrize("size", [(1, MAX_SIDE), (MAX_SIDE, 1)])
def test_a_picture_at_the_limit_is_decoded(size):
    assert decode(png_of(*size), "x.png", (8, 8, 1))[0].shape == (8, 8, 1)


@pytest.mark.parametrize("data", [b"", b"x", b"\x89PNG\r\n\x1a\n", b"BM" + b"\xff" * 60])
def test_a_mask_that_is_not_a_picture_is_refused(tmp_path, data):
    (tmp_path / "mask.png").write_bytes(data)
    with pytest.raises(SettingError, match=r"mask\.png cannot be read"):
        Mask.of(tmp_path / "mask.png", (8, 8, 3))


def test_a_mask_that_is_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "mask.png")
    with pytest.raises(SettingError, match="regular file"):
        Mask.of(tmp_path / "mask.png", (8, 8, 3))


# --- universal perturbations


@pytest.mark.parametrize("name", sorted(set(CLAIMS) - {"1-d", "a million images"}))
def test_a_damaged_perturbation_is_refused(tmp_path, name):
    from robustness.attacks.universal_fit import Fitted

    told = io.BytesIO()
    np.save(told, np.array("{}"))
    path = npz_of(tmp_path / "x.npz", values=CLAIMS[name], told=told.getvalue())
    with pytest.raises(SettingError, match=r"x\.npz holds no fitted change"):
        Fitted.load(path)


# --- plug-ins


PLUG_IN_MODULE = """
import sys
from dataclasses import dataclass
if {how!r} == "raise":
    raise ValueError("of its own")
if {how!r} == "exit":
    sys.exit(7)
if {how!r} == "interrupt":
    raise BaseException("odd")
if {how!r} == "syntax":
    exec("(")
if {how!r} == "recursion":
    def again(): again()
    again()
class Plain: pass
NUMBER = 3
def function(): pass
from robustness.contract.attack import Attack
class Unsaid(Attack):
    pass
"""
WAYS = ["raise", "exit", "interrupt", "syntax", "recursion"]


def install(folder: Path, package: str, group: str, **points: str) -> None:
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def broken_plug_ins(tmp_path, monkeypatch):
    """Plug-ins that fail in every way, for every group, beside those of the toolkit."""
    for how in WAYS:
        (tmp_path / f"plug_in_{how}.py").write_text(PLUG_IN_MODULE.format(how=how))
    (tmp_path / "plug_in_fine.py").write_text(PLUG_IN_MODULE.format(how=""))
    values = {f"bad-{how}": f"plug_in_{how}:X" for how in WAYS} | {
        "bad-module": "no_such_module:X",
        "bad-attribute": "plug_in_fine:Missing",
        "bad-number": "plug_in_fine:NUMBER",
        "bad-class": "plug_in_fine:Plain",
        "bad-unsaid": "plug_in_fine:Unsaid",
    }
    own = {plugins.ATTACKS: "pgd", plugins.ENSEMBLES: "quick", plugins.MODELS: "dogs-vs-cats"}
    for number, (group, name) in enumerate(own.items()):
        install(tmp_path, f"pack{number}", group, **values, **{name: "plug_in_raise:X"})
        install(tmp_path, f"pair{number}", group, twice="plug_in_fine:Plain")
        install(tmp_path, f"other{number}", group, twice="plug_in_fine:NUMBER")
    install(tmp_path, "writers", plugins.REPORTS, **values)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield [*values, "twice"]
    for name in [name for name in sys.modules if name.startswith("plug_in_")]:
        del sys.modules[name]


def test_broken_plug_ins_are_listed_and_affect_nothing_else(broken_plug_ins):
    from robustness.contract import ensembles, registry

    for group, find in ((plugins.ATTACKS, registry.find), (plugins.ENSEMBLES, ensembles.find)):
        good, broken = plugins.survey(group, find)
        ours = "pgd" if group == plugins.ATTACKS else "quick"
        assert {one.name for one in broken} == {*broken_plug_ins, ours}
        assert ours in {one.name for one in good}
        assert all("\n" not in one.reason and len(one.reason) < 500 for one in broken)
        by_name = {one.name: one.reason for one in broken}
        assert "ValueError: of its own" in by_name["bad-raise"]
        assert "SystemExit: 7" in by_name["bad-exit"]
        assert "pair" in by_name["twice"] and "other" in by_name["twice"]


def test_a_plug_in_cannot_replace_a_built_in_name(broken_plug_ins):
    from robustness.attacks.pgd import PGD

    assert plugins.load(plugins.ATTACKS, "pgd") is PGD


def test_broken_models_are_listed(broken_plug_ins):
    from robustness import model_zoo

    found = {info.name: info.summary for info in model_zoo.list_models()[:-1]}
    assert set(broken_plug_ins) - {"bad-class", "bad-unsaid"} <= set(found)
    assert "SystemExit: 7" in found["bad-exit"]


@pytest.mark.parametrize("name", [*(f"bad-{how}" for how in WAYS), "bad-number"])
def test_a_broken_report_is_refused(broken_plug_ins, name):
    with pytest.raises(SettingError, match=name):
        plugins.writer(name)


@pytest.mark.slow
def test_robustness_attacks_lists_the_working_attacks(broken_plug_ins, capsys):
    from robustness.cli.attacks import attacks

    attacks()
    out = capsys.readouterr().out
    assert "fgsm" in out and "autoattack" in out
    assert "broken: bad-raise: The plug-in of the attack" in out


MALFORMED = {
    "no equals": b"[console_scripts]\nfoo\n",
    "no utf-8": b"[console_scripts]\n\xff = a:b\n",
    "pipe": None,
    "folder": None,
    "huge": None,
}


@pytest.mark.parametrize("about", ["fine", "no utf-8", "pipe"])
@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_package_affects_only_itself(tmp_path, monkeypatch, caplog, kind, about):
    info = tmp_path / "odd_pack-1.0.dist-info"
    install(tmp_path, "odd_pack", plugins.MODELS, lost="plug_in_fine:X")
    install(tmp_path, "sound", plugins.MODELS, found="plug_in_fine:X")
    file = info / "entry_points.txt"
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "huge":
        with file.open("wb") as sparse:
            sparse.truncate(20 << 30)
    else:
        file.write_bytes(MALFORMED[kind])
    if about != "fine":
        (info / "METADATA").unlink()
    if about == "pipe":
        os.mkfifo(info / "METADATA")
    elif about == "no utf-8":
        (info / "METADATA").write_bytes(b"Name: \xff\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for _ in range(2):
        known = plugins.names(plugins.MODELS)
        assert "found" in known and "dogs-vs-cats" in known and "lost" not in known
    assert plugins.point(plugins.ATTACKS, "pgd").value == "robustness.attacks.pgd:PGD"
    (told,) = [one.getMessage() for one in caplog.records if "odd_pack" in one.getMessage()]
    assert "\n" not in told and told.startswith("warning: the package odd_pack")


def test_changes_of_installed_packages_are_noticed(tmp_path, monkeypatch):
    install(tmp_path, "first", plugins.MODELS, one="plug_in_fine:X")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "one" in plugins.names(plugins.MODELS)
    os.utime(tmp_path, (0, 0))  # the search for packages notices a folder's changes by its time
    install(tmp_path, "second", plugins.MODELS, two="plug_in_fine:X")
    assert {"one", "two"} <= set(plugins.names(plugins.MODELS))
    for text, known in (("one2 = plug_in_fine:X", {"one2", "two"}), ("bad", {"two"})):
        (tmp_path / "first-1.0.dist-info" / "entry_points.txt").write_text(
            f"[{plugins.MODELS}]\n{text}\n"
        )
        assert {"one", "one2", "two"} & set(plugins.names(plugins.MODELS)) == known
    shutil.rmtree(tmp_path / "second-1.0.dist-info")
    os.utime(tmp_path, (1, 1))
    assert not {"one", "one2", "two"} & set(plugins.names(plugins.MODELS))


FAILING = """
import sys
def raises(run, path=None): raise ValueError("of its own\\nand more")
def leaves(run, path=None): sys.exit(7)
def denied(run, path=None): raise PermissionError(13, "no")
def fine(run, path=None): return run
def nothing(run, path=None): return None
def elsewhere(run, path=None): return "no/such/file"
"""


@pytest.fixture
def failing(tmp_path, monkeypatch):
    (tmp_path / "plug_in_writers.py").write_text(FAILING)
    names = ("raises", "leaves", "denied", "fine", "nothing", "elsewhere")
    install(tmp_path, "wr", plugins.REPORTS, **{n: f"plug_in_writers:{n}" for n in names})
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("plug_in_writers", None)


@pytest.mark.parametrize(
    ("kind", "said"),
    [("raises", "ValueError: of its own"), ("leaves", "SystemExit: 7"), ("denied", "Permission")],
)
def test_a_failing_report_is_a_one_sentence_error(failing, tmp_path, kind, said):
    with pytest.raises(
        RunError, match=rf"'{kind}' \(plug_in_writers:{kind}\) failed: .*{said}"
    ) as caught:
        plugins.writer(kind)(tmp_path, None)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("kind", "returned"), [("nothing", "None"), ("elsewhere", "'no/such/file'")]
)
def test_a_report_that_writes_no_file_is_an_error(failing, tmp_path, kind, returned):
    with pytest.raises(
        RunError, match=rf"'{kind}' \(plug_in_writers:{kind}\) returned {returned}; expected"
    ):
        plugins.writer(kind)(tmp_path, None)


def test_failing_reports_do_not_stop_the_others(failing, tmp_path, capsys):
    from robustness.cli import report

    class Result:
        def report(self, *, kind):
            return plugins.writer(kind)(tmp_path, None)

    pages, failed = report.written(
        cast("AuditResult", Result()), ["raises", "fine", "denied", "fine"]
    )
    assert pages == [tmp_path, tmp_path] and len(failed) == 2
    with pytest.raises(RunError, match="'denied'"):
        report.fail(failed)
    assert "'raises'" in capsys.readouterr().err
    report.fail([])


@pytest.mark.parametrize("part", ["run.json", "run.sqlite", "run.sqlite-wal"])
def test_no_report_overwrites_a_part_of_a_run(failing, tmp_path, part):
    from robustness.reports.files import report_path

    (tmp_path / "run.json").write_text("{}")
    for write in (plugins.writer("fine"), plugins.writer("html"), plugins.writer("csv")):
        with pytest.raises(SettingError, match="part of the run"):
            write(tmp_path, tmp_path / part)
    with pytest.raises(SettingError, match="part of the run"):
        report_path(tmp_path, tmp_path / part, "x.html")
    assert (tmp_path / "run.json").read_text() == "{}"
