"""Runs the user's own preprocessing: a function that is named in this command, loaded and called as it is."""

from __future__ import annotations

import hashlib
import inspect
import io
import re
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from PIL import Image

from robustness.errors import PipelineError, RobustnessError, SettingError
from robustness.images.png import FORMATS, to_png
from robustness.models.classifier import Classifier
from robustness.models.user_modules import import_module, importable
from robustness.pipeline.decoders import (
    by_toolkit,
    expect_channels,
    expect_sound_header,
    first_line,
)
from robustness.pipeline.function_parameter import ARRAY, BYTES, TAKES, takes_of
from robustness.pipeline.function_results import model_input
from robustness.pipeline.imported_files import digest_of, imported_files
from robustness.pipeline.preprocessing import ImageShape
from robustness.text import did_you_mean, shorten, shown

FORM = "module:function or file.py:function"
_TEXT = re.compile(
    r"(?P<place>.+):(?P<name>[^:,]*)(?:,\s*takes\s*=\s*(?P<takes>[^,]*))?", re.DOTALL
)
AS_IT_IS = "0..255"
"""The scaling that changes nothing."""
_REPEATS = 8
"""Further calls on one picture: a flip by chance is missed once in 256 times, or less."""
_ORIENTATION, _QUARTER_TURN = 0x0112, 6
_CALLS = threading.RLock()
"""Code of users need not bear several threads, and pictures are read by several."""


class RecordedFunction(Protocol):
    """What a run records of a function (`robustness.runs.schema.FunctionEntry`)."""

    name: str | None
    takes: str | None
    source_sha256: str | None
    file_sha256: str | None
    imports_sha256: str | None


@dataclass(frozen=True)
class UserFunction:
    """A preprocessing function; see `robustness.pipeline.preprocessing.Preprocessing`.

    Its result is the model's input: the classifier behind it scales nothing.

    Attributes
    ----------
    text : what `load_function` reads.
    takes : what the function is given, one of `TAKES`.
    function : the function.
    file : path of its module; "" if it has none.
    source_sha256, file_sha256 : hashes of its source and of its module's file; "" where there is none.
    imports : the files of the user that its module imports, with their hashes (`imported_files`).
    channels_first : whether the model takes, and the function returns, (channels, height, width).
    whole : whether images have whole counts.
    """

    text: str
    takes: str
    function: Callable[[Any], Any] = field(repr=False)
    file: str = ""
    source_sha256: str = ""
    file_sha256: str = ""
    imports: Mapping[str, str] = field(default_factory=dict, hash=False)
    channels_first: bool = False
    whole: bool = False

    def before(self, classifier: Classifier) -> UserFunction:
        """Return the function as it stands before a model, whose axes its result has."""
        return replace(self, channels_first=classifier.channels_first)

    def image(self, pixels: np.ndarray, shape: ImageShape) -> np.ndarray:
        """Return the model's input of decoded pixels.

        Parameters
        ----------
        pixels : (height, width, channels) uint8. The function gets a copy, or a PNG file of them.
        shape : the model's input, (height, width, channels).

        Returns
        -------
        `shape`, float32, or uint8 if the function returns that.

        Raises
        ------
        PipelineError
            The function fails, or its result is not an input of the model.
        """
        if self.takes == ARRAY:
            return self._called(np.array(pixels, np.uint8), _size(pixels), shape)
        expect_channels(pixels.shape[2])
        return self._of_file(to_png(pixels), _size(pixels), shape)

    def image_of_file(self, data: bytes, shape: ImageShape) -> np.ndarray:
        """Return the model's input of a picture file.

        A function of bytes gets the file itself, one of PIL images what `Image.open` gives; for one of arrays
        the file is decoded as an audit does it: turned as its EXIF orientation says, transparency on white.
        """
        expect_sound_header(data)
        if self.takes == ARRAY:
            return self.image(by_toolkit(data, shape[2]), shape)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            size = image.size
        return self._of_file(data, size, shape)

    @cached_property
    def oriented(self) -> bool:
        """Whether the function turns a photograph as its EXIF orientation says, found by trying."""
        if self.takes == ARRAY:
            return True
        pixels = np.zeros((384, 512, 3), np.uint8)
        pixels[:192], pixels[:, :200, 1] = 200, 120
        exif = Image.Exif()
        exif[_ORIENTATION] = _QUARTER_TURN
        plain, tagged = (self._tried(_jpeg(pixels, tag)) for tag in (Image.Exif(), exif))
        return plain is None or tagged is None or not np.array_equal(plain, tagged)

    @property
    def imports_sha256(self) -> str:
        """The hash of all files in `imports`; "" if there are none."""
        return digest_of(dict(self.imports))

    def source_differs(self, recorded: RecordedFunction) -> str:
        """Return how the function differs from the one that a run records, a sentence; "" if it does not."""
        before = f"the run was made with {recorded.name}"
        if recorded.takes and recorded.takes != self.takes:
            return f"The preprocessing {self.text} takes {self.takes}; {before}, which took {recorded.takes}."
        if recorded.source_sha256 and recorded.source_sha256 != self.source_sha256:
            return f"The source of the preprocessing {self.text} is another one now than when {before}."
        if recorded.file_sha256 and recorded.file_sha256 != self.file_sha256:
            return (
                f"The file of the preprocessing {self.text} is another one now than when {before}; the "
                "function's own source is the same, what it calls may differ."
            )
        if recorded.imports_sha256 and recorded.imports_sha256 != self.imports_sha256:
            files = shorten(", ".join(self.imports) or "none now", 200)
            return (
                f"A file that the preprocessing {self.text} imports ({files}) is another one now than when "
                f"{before}."
            )
        return ""

    def _of_file(self, data: bytes, size: tuple[int, int], shape: ImageShape) -> np.ndarray:
        if self.takes == BYTES:
            return self._called(data, size, shape)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return self._called(image, size, shape)

    def _called(self, picture: Any, size: tuple[int, int], shape: ImageShape) -> np.ndarray:
        """The checked result for a picture of `size` (width, height)."""
        said = f"The preprocessing {self.text}, for a picture of {size[0]} × {size[1]} pixels,"
        return model_input(
            self._result(picture, said), shape, said, channels_first=self.channels_first
        )

    def _result(self, picture: Any, said: str) -> Any:
        with _CALLS, importable(Path(self.file).parent):
            try:
                return self.function(picture)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # code of the user may raise anything, SystemExit too
                raise PipelineError(
                    f"{said} failed: {type(error).__name__}: {first_line(error)}{_place(error, self.file)}."
                ) from error

    def _tried(self, data: bytes) -> np.ndarray | None:
        """The function's result for a file; None if it fails or is no array."""
        try:
            if self.takes == BYTES:
                result = self._result(data, "")
            else:
                with Image.open(io.BytesIO(data)) as image:
                    result = self._result(image, "")
            return np.array(result)
        except Exception:  # what is no array raises many types
            return None


def load_function(text: str, *, takes: str | None = None) -> UserFunction:
    """Import the preprocessing function that a text names. This runs the code of its module.

    Parameters
    ----------
    text : ``package.module:function`` or ``file.py:function``, and maybe ``,takes=bytes``.
    takes : what the function takes, one of `TAKES`, where its annotation does not say it.

    Raises
    ------
    SettingError
        The text, the file or the function does not exist, or it is not known what the function takes.
    PipelineError
        The module cannot be imported.
    """
    match = _TEXT.fullmatch(text.strip())
    if match is None or not match["name"].strip():
        raise SettingError(
            f"The preprocessing is {shown(text)}; expected {FORM}, such as my_code.py:prepare."
        )
    name, place = match["name"].strip(), match["place"].strip()
    stated = _stated(match["takes"], takes, text)
    module = import_module(place, lambda reason: _not_imported(text, reason))
    function = _found(module, name, text)
    read = takes_of(function, f"The preprocessing {place}:{name}")
    if read is None and stated is None:
        raise SettingError(
            f"It is not known what {place}:{name} takes. Annotate its first parameter: bytes (the file), "
            "PIL.Image.Image, or np.ndarray (uint8, height x width x channels); or write "
            f"{place}:{name},takes={'|'.join(TAKES)}."
        )
    if read and stated and read != stated:
        raise SettingError(
            f"{place}:{name} takes {read} by its annotation, and takes={stated} was stated; expected one."
        )
    suffix = "" if read else f",takes={stated}"
    return UserFunction(
        f"{place}:{name}{suffix}",
        read or str(stated),
        function,
        getattr(module, "__file__", None) or "",
        _sha256(_source(function)),
        _sha256(_content(module)),
        imported_files(getattr(module, "__file__", None) or "", module.__name__),
    )


def taking_inputs(classifier: Classifier) -> Classifier:
    """Return a classifier that takes what a function makes, the model's input, as it is."""
    same = classifier.scaling.name == AS_IT_IS
    return classifier if same else classifier.with_scaling(AS_IT_IS)


def checked_images(
    function: UserFunction,
    pictures: Sequence[np.ndarray],
    shape: ImageShape,
    names: Sequence[str] = (),
) -> list[np.ndarray]:
    """Return the model's inputs of pictures, after calling the function on each of them twice.

    Parameters
    ----------
    function : the preprocessing.
    pictures : uint8 (height, width, channels), of any sizes.
    shape : the model's input.
    names : of the pictures, for messages.

    Raises
    ------
    PipelineError
        The function cannot process one of them, or gives other numbers when called again.
    """
    first: list[np.ndarray] = []
    for index, pixels in enumerate(pictures):
        try:
            first.append(function.image(pixels, shape))
        except PipelineError as error:
            if index < len(names):
                raise PipelineError(f"{names[index]}: {error}") from error
            raise
    smallest = min(range(len(pictures)), key=lambda index: pictures[index].size, default=0)
    # Backwards, so that a result which depends on the picture before is another one.
    again = [*reversed(range(len(pictures))), *[smallest] * (_REPEATS if pictures else 0)]
    for index in again:
        _expect_equal(
            function, first[index], function.image(pictures[index], shape), pictures[index]
        )
    return first


def _expect_equal(
    function: UserFunction, first: np.ndarray, second: np.ndarray, pixels: np.ndarray
) -> None:
    if np.array_equal(first, second):
        return
    apart = float(np.abs(first.astype(np.float64) - second).max())
    width, height = _size(pixels)
    raise PipelineError(
        f"The preprocessing {function.text} gives another number each time: two calls on the same picture of "
        f"{width} × {height} pixels differ by up to {apart:.3g}. Expected the deployed preprocessing, which "
        "gives equal inputs for equal pictures; random flips, crops and colours belong to training."
    )


def _stated(suffix: str | None, takes: str | None, text: str) -> str | None:
    """What the text or the caller states that the function takes."""
    stated = {one.strip().lower() for one in (suffix, takes) if one is not None}
    for one in stated:
        if one not in TAKES:
            raise SettingError(
                f"takes={shown(one, 60)} of the preprocessing {shown(text)} is not known; expected one of "
                f"{', '.join(TAKES)}.{did_you_mean(one, TAKES)}"
            )
    if len(stated) > 1:
        raise SettingError(
            f"The preprocessing {shown(text)} states takes={suffix}, and takes={takes} was given; expected "
            "one of them."
        )
    return stated.pop() if stated else None


def _not_imported(text: str, reason: str) -> RobustnessError:
    return PipelineError(
        f"--preprocess {text} cannot be imported: {reason}. Expected {FORM} whose module runs without "
        "arguments."
    )


def _found(module: ModuleType, name: str, text: str) -> Callable[[Any], Any]:
    """The function `name` of a module; dots lead into objects."""
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            known = [one for one in dir(value) if not one.startswith("_")]
            raise SettingError(
                f"The preprocessing {shown(text)}: {module.__name__} has no {shown(part, 60)}."
                f"{did_you_mean(part, known)}"
            )
        value = getattr(value, part)
    if isinstance(value, type) or not callable(value):
        kind = (
            "a class" if isinstance(value, type) else f"a value of the type {type(value).__name__}"
        )
        raise SettingError(f"The preprocessing {shown(text)} is {kind}; expected a function.")
    return value


def _source(function: Any) -> bytes:
    """The source text of a function, or of the class of a callable object; empty if there is none."""
    for one in (function, type(function)):
        try:
            return inspect.getsource(inspect.unwrap(one)).encode()
        except (TypeError, OSError):
            continue
    return b""


def _content(module: ModuleType) -> bytes:
    try:
        return Path(module.__file__ or "").read_bytes()
    except OSError:
        return b""


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if content else ""


def _size(pixels: np.ndarray) -> tuple[int, int]:
    return pixels.shape[1], pixels.shape[0]


def _jpeg(pixels: np.ndarray, exif: Image.Exif) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def _place(error: BaseException, file: str) -> str:
    """The line of the user's file where an error arose, with its code."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = [frame for frame in frames if file and Path(frame.filename) == Path(file)]
    if not own:
        return ""
    code = f": {shorten(own[-1].line, 80)}" if own[-1].line else ""
    return f" (line {own[-1].lineno} of {Path(file).name}{code})"
