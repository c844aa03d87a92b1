"""What sources of other packages raise or give wrongly is told in a sentence that names their kind."""

import hashlib
from typing import cast

import numpy as np
import pytest

from robustness.errors import ImagesError
from robustness.images import (
    Entry,
    Picture,
    Sample,
    SourceKind,
    SourceOptions,
    Stream,
    readable,
    source_kinds,
    unreadable,
)

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
ENTRIES = [Entry("a", "a.npy", 0), Entry("b", "b.npy", 1)]


def raises(*_):
    raise KeyError("of its own")


def leaves(*_):
    raise SystemExit(0)


class Given:
    """A source that keeps the contract."""

    class_names = ("cat", "dog")
    description = "two pictures"

    def entries(self):
        return list(ENTRIES)

    def read(self, entry, shape):
        return readable(entry, PIXELS)


def opened(monkeypatch, source):
    kind = SourceKind("a test", takes=lambda given: True, open=lambda given, options: source)
    if callable(source):
        kind = SourceKind("a test", takes=lambda given: True, open=source)
    monkeypatch.setattr(source_kinds, "_survey", lambda: ({"other": kind}, []))
    return source_kinds.opened(kind, "given", SourceOptions())


def read(source):
    assert source.description
    return [source.read(entry, (4, 4, 3)) for entry in source.entries()]


def entry(label):
    return lambda *_: [Entry("a", "a.npy", label)]


def picture(pixels, reason=""):
    return lambda self, entry, shape: Picture(entry, pixels, "", reason=reason)


PARTS = {
    "description raises": (
        {"description": property(raises)},
        "failed to tell its `description`: KeyError",
    ),
    "no description": ({"description": None}, "has the `description` None; expected a text"),
    "names": ({"class_names": "ab"}, "has the `class_names` 'ab'; expected a tuple of names"),
    "entries raise": ({"entries": raises}, "failed to list its `entries`: KeyError: 'of its own'"),
    "no entries": ({"entries": lambda *_: None}, "failed to list its `entries`: TypeError"),
    "tuples": ({"entries": lambda *_: [("a", "a", 0)]}, "expected an Entry whose key is a text"),
    "a key twice": ({"entries": lambda *_: 2 * ENTRIES}, "listed the key 'a' twice"),
    "a number as key": (
        {"entries": lambda *_: [Entry(cast("str", 3), "a", 0)]},
        "an Entry whose key is a text",
    ),
    "a name as label": (
        {"entries": entry("cat")},
        "gave 'a' the label 'cat'; expected a whole number",
    ),
    "label -1": (
        {"entries": entry(-1)},
        "gave 'a' the label -1; expected a whole number from 0, one of 2",
    ),
    "label 2": ({"entries": entry(2)}, "gave 'a' the label 2; expected"),
    "read raises": ({"read": raises}, "failed to read 'a': KeyError: 'of its own'"),
    "read exits": ({"read": leaves}, "failed to read 'a': SystemExit"),
    "no picture": ({"read": lambda *_: None}, "read 'a' as None; expected a Picture"),
    "pixels alone": ({"read": lambda *_: PIXELS}, r"read 'a' as array\(.*expected a Picture"),
    "half a picture": (
        {"read": picture(PIXELS[:2])},
        r"as uint8 \(2, 4, 3\); expected uint8 \(4, 4, 3\)",
    ),
    "grey": ({"read": picture(PIXELS[..., 0])}, r"as uint8 \(4, 4\); expected uint8 \(4, 4, 3\)"),
    "floats": ({"read": picture(PIXELS / 255)}, r"as float64 \(4, 4, 3\); expected uint8"),
    "a list": ({"read": picture(PIXELS.tolist())}, "read 'a' as list .*; expected uint8"),
    "both": ({"read": picture(PIXELS, "broken")}, "read 'a' with pixels and a reason"),
}


@pytest.mark.parametrize(("parts", "sentence"), PARTS.values(), ids=PARTS)
def test_what_breaks_the_contract_is_told(monkeypatch, parts, sentence):
    with pytest.raises(ImagesError, match=sentence) as error:
        read(opened(monkeypatch, type("Hostile", (Given,), parts)()))
    assert str(error.value).startswith("The kind of images 'other' ")


@pytest.mark.parametrize("source", [None, [1], 3], ids=str)
def test_what_is_no_source_is_told(monkeypatch, source):
    with pytest.raises(
        ImagesError, match=r"'other' opened .*; expected a Source with `entries` and `read`"
    ):
        opened(monkeypatch, source)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [(raises, "'other' failed to open given: KeyError"), (leaves, "SystemExit")],
)
def test_an_exception_of_open_is_told(monkeypatch, how, sentence):
    with pytest.raises(ImagesError, match=sentence):
        opened(monkeypatch, how)


def test_entries_that_differ_the_second_time_are_refused(monkeypatch):
    class Turns(Given):
        def entries(self):
            ENTRIES.reverse()
            return list(ENTRIES)

    source = opened(monkeypatch, Turns())
    assert [one.key for one in source.entries()] == ["b", "a"]
    with pytest.raises(ImagesError, match="listed other `entries` than before"):
        source.entries()
    ENTRIES.sort()


def test_a_sound_source_is_read_as_it_is(monkeypatch):
    source = opened(monkeypatch, type("Threads", (Given,), {"threads": 7})())
    assert (source.class_names, source.threads) == (("cat", "dog"), 7)
    digest = hashlib.sha256(PIXELS.tobytes()).hexdigest()
    assert [(p.entry, p.digest) for p in read(source)] == [(one, digest) for one in ENTRIES]
    assert not hasattr(source, "unturned")


def test_labels_of_numpy_become_numbers_and_digests_are_computed(monkeypatch):
    parts = {"entries": entry(np.int64(1)), "read": picture(PIXELS)}
    source = opened(monkeypatch, type("Numbers", (Given,), parts)())
    assert type(source.entries()[0].label) is int
    assert read(source)[0].digest == hashlib.sha256(PIXELS.tobytes()).hexdigest()


def test_a_picture_at_its_own_size_has_any_height_and_width(monkeypatch):
    source = opened(monkeypatch, Given())
    assert source.read(ENTRIES[0], (None, None, 3)).pixels.shape == (4, 4, 3)
    with pytest.raises(ImagesError, match="expected uint8"):
        source.read(ENTRIES[0], (None, None, 1))


def test_an_unreadable_picture_has_a_reason(monkeypatch):
    parts = {"read": lambda self, entry, shape: unreadable(entry, "")}
    source = opened(monkeypatch, type("Silent", (Given,), parts)())
    assert read(source)[0].reason == "The kind of images 'other' gives no reason."


SAMPLES = {
    "raises": (
        lambda: (raises() if n else Sample(PIXELS) for n in range(2)),
        "failed at image 1: KeyError",
    ),
    "no pass": (raises, "failed to begin a pass: KeyError"),
    "None": (lambda: iter([Sample(PIXELS), None]), "gave None as image 1; expected a Sample"),
    "label": (lambda: iter([Sample(PIXELS, label=object())]), "gave image 0 the label <object"),
}


@pytest.mark.parametrize(("samples", "sentence"), SAMPLES.values(), ids=SAMPLES)
def test_what_a_stream_gives_wrongly_is_told(monkeypatch, samples, sentence):
    with pytest.raises(ImagesError, match=f"The kind of images 'other' {sentence}"):
        opened(monkeypatch, Stream("given", samples))
