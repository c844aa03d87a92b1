"""Recognises the kind of a model file by its first bytes, and states what to do with it.

The suffix of a name decides nothing: HDF5 files are named `.keras` or `.model`, zip archives `.h5`. It only
chooses the words for a file whose bytes are of no known kind.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from robustness.models.scan.config_safety import quote

ACCEPTED = "a model that Keras has saved to a file (.keras, .h5, .hdf5; any other suffix too)"
HEAD_BYTES = 1024
"""How many bytes the tests see."""
_SAVE = "save the model with model.save('model.keras')"
_REBUILD = "rebuild the architecture in Keras and copy the weights"
_PICKLE = f"a pickle runs code when it is opened; {_SAVE} where it was made"
_UNPACK = "unpack it and give the model file in it"
_AGAIN = "download or copy the file again"
_PICTURE = "give the model first (-m) and the pictures with -i"
_TFLITE = "a TFLite file holds no gradients; audit the Keras model it was made from"
_SAVED_MODEL = f"load it where it was made and {_SAVE}"
_ARCHITECTURE = "give the file of its weights as the model, and this file as --architecture"


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes
    ----------
    name : short name; `keras` and `h5` can be loaded.
    words : the kind, with its article, for messages.
    next_step : what the user can do; `{folder}` and `{name}` stand for those of the file, quoted for a shell.
    matches : the test, of the first `HEAD_BYTES` bytes.
    """

    name: str
    words: str
    next_step: str
    matches: Callable[[bytes], bool]

    def refusal(self, path: Path) -> str:
        """Return the message for a file of this kind at `path`, which cannot be audited."""
        folder, name = (shlex.quote(str(part)) for part in (path.absolute().parent, path.name))
        step = self.next_step.format(folder=folder, name=name)
        return f"{quote(path.name)} is {self.words}; expected {ACCEPTED}. Next: {step}."


def _begins(*starts: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(starts)


def _text(pattern: str) -> Callable[[bytes], bool]:
    compiled = re.compile(pattern.encode(), re.IGNORECASE)
    return lambda head: compiled.match(head.removeprefix(b"\xef\xbb\xbf").lstrip()) is not None


def _protobuf(head: bytes) -> bool:
    """Whether a message of protobuf begins as that of ONNX: a version, then a text."""
    return len(head) > 3 and head[0] == 8 and 3 <= head[1] <= 20 and head[2] in (0x12, 0x22, 0x3A)


def _json_with(head: bytes, *words: bytes) -> bool:
    return head.lstrip().startswith(b"{") and any(word in head for word in words)


_ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd", b"7z\xbc\xaf", b"Rar!")
KERAS = Format("keras", "a zip archive", _UNPACK, _begins(b"PK\x03\x04"))
H5 = Format("h5", "an HDF5 file", _SAVE, _begins(b"\x89HDF\r\n\x1a\n"))
FORMATS: tuple[Format, ...] = (
    KERAS,
    H5,
    Format("empty", "an empty file", f"{_AGAIN}; nothing of it arrived", lambda head: not head),
    Format(
        "lfs",
        "a Git LFS pointer, a few lines in place of the model",
        "fetch the model with `cd {folder} && git lfs pull --include {name}`, or download the file itself",
        _begins(b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/"),
    ),
    Format(
        "dvc",
        "a DVC file, which names the model but does not hold it",
        "fetch the model with `cd {folder} && dvc pull {name}`, and give the file that it writes",
        lambda head: all(
            re.search(part, head, re.M) for part in (rb"^outs:", rb"^\s*-?\s*(md5|hash|path):")
        ),
    ),
    Format(
        "annex",
        "a git-annex pointer, a line in place of the model",
        "fetch the model with `cd {folder} && git annex get {name}`",
        _begins(b"/annex/objects/"),
    ),
    Format(
        "html",
        "a web page, not the model: the address leads to a page about the file",
        "download the file itself (on GitHub the button 'Download raw file')",
        _text(r"<(!doctype html|html|head|body|!--)"),
    ),
    Format(
        "xml",
        "an XML text, as servers send in place of a file that they refuse",
        f"open it in an editor to read the reason, then {_AGAIN}",
        _text(r"<\?xml|<error>"),
    ),
    Format("architecture", "the architecture of a Keras model in JSON, without weights", _ARCHITECTURE,
           lambda head: _json_with(head, b'"class_name"')),
    Format("tfjs", "the architecture of a TensorFlow.js model", "audit the Keras model it was made from",
           lambda head: _json_with(head, b'"modelTopology"', b"layers-model")),
    Format("architecture", "the architecture of a Keras model in YAML, without weights", _ARCHITECTURE,
           lambda head: re.search(rb"^class_name:", head, re.M) is not None),
    Format("json", "a JSON text, not a model",
           f"open it in an editor; if it reports an error, {_AGAIN}", _text(r"[\[{]")),
    Format("tflite", "a TFLite file", _TFLITE, lambda head: head[4:8] == b"TFL3"),
    Format("safetensors", "a safetensors file", _REBUILD, lambda head: head[8:10] == b'{"'),
    Format("pickle", "a pickle", _PICKLE,
           lambda head: head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")),
    Format("saved_model", "the saved_model.pb of a SavedModel", _SAVED_MODEL, _begins(b"\x08\x01\x12")),
    Format("onnx", "an ONNX file", _REBUILD, _protobuf),
    Format("archive", "an archive (gzip, bzip2, xz, zstd, 7z, rar or tar)", _UNPACK,
           lambda head: head.startswith(_ARCHIVES)
           or head[257:262] == b"ustar"),
    Format("picture", "a picture", _PICTURE, _begins(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM")),
    Format("array", "a NumPy array", _REBUILD, _begins(b"\x93NUMPY")),
    Format("zeros", "a file that begins with zero bytes only, as an unfinished download does", _AGAIN,
           lambda head: not head.strip(b"\0")),
)  # fmt: skip
_BY_SUFFIX = {
    ".keras": ("no zip archive", f"it may be cut short or another file renamed; {_AGAIN}"),
    ".pb": ("a .pb file", _SAVED_MODEL),
    ".tflite": ("a .tflite file", _TFLITE),
    **{s: (f"a {s} file", _REBUILD) for s in (".onnx", ".pt", ".pth", ".safetensors")},
    **{s: (f"a {s} file", _PICKLE) for s in (".pkl", ".pickle", ".joblib")},
    **dict.fromkeys(
        (".h5", ".hdf5"), ("no HDF5 file", f"it may be cut short or another file renamed; {_AGAIN}")
    ),
}
"""Words for a file whose bytes say nothing: its kind, and what to do."""


def file_kind(head: bytes) -> Format | None:
    """Return the kind of a file by its first `HEAD_BYTES` bytes; None if they are of no known kind."""
    return next((one for one in FORMATS if one.matches(head)), None)


def unknown_kind(path: Path, head: bytes) -> str:
    """Return the message for a file whose first bytes, `head`, are of no known kind."""
    suffix = path.suffix.lower()
    plain = f"a {quote(suffix)[1:-1]} file" if suffix else "a file without an extension"
    words, step = _BY_SUFFIX.get(suffix, (plain, _SAVE))
    return f"{quote(path.name)} is {words} (it begins with {head[:4]!r}); expected {ACCEPTED}. Next: {step}."


def folder_kind(path: Path) -> str:
    """Return the message for a folder given in place of a model file."""
    kind, step = "a folder", "give the model file in it"
    if (path / "saved_model.pb").is_file():
        kind, step = "a SavedModel folder", _SAVED_MODEL
    elif (path / "config.json").is_file():
        kind, step = "an unpacked Keras folder", _SAVE
    return f"{quote(path.name)} is {kind}; expected {ACCEPTED}. Next: {step}."
