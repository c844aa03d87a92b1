"""A user's own preprocessing runs as it is: what it gets and returns, and how its faults are named."""

from __future__ import annotations

import hashlib
import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from robustness.configuration.audit_file import expect_typed
from robustness.errors import PipelineError, SettingError
from robustness.images.png import to_png
from robustness.pipeline.imported_files import digest_of, imported_files
from robustness.pipeline.user_function import (
    UserFunction,
    checked_images,
    load_function,
)

SHAPE = (8, 6, 3)
IMPORTS = "import io\nimport numpy as np\nfrom PIL import Image, ImageFilter, ImageOps\n"
BY_BYTES = """
def prepare(data: bytes):
    picture = Image.open(io.BytesIO(data)).convert("RGB").resize((6, 8))
    return np.asarray(picture) / 255
"""
BY_PIL = """
def prepare(picture: Image.Image):
    return np.asarray(picture.convert("RGB").resize((6, 8))) / 255
"""
BY_ARRAY = """
def prepare(pixels: np.ndarray):
    return np.asarray(Image.fromarray(pixels).resize((6, 8))) / 255
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that writes a module with code and loads its function `prepare`."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    def load(code: str, name: str = "own_code.py", suffix: str = "", **options) -> UserFunction:
        (tmp_path / name).write_text(IMPORTS + code)
        return load_function(f"{name}:prepare{suffix}", **options)

    yield load
    for name in set(sys.modules) - before:
        if name.startswith("own_"):
            del sys.modules[name]


def picture(height: int = 20, width: int = 30, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def resized(pixels: np.ndarray) -> np.ndarray:
    return (np.asarray(Image.fromarray(pixels).resize((6, 8))) / 255).astype(np.float32)


@pytest.mark.parametrize(
    ("code", "takes"), [(BY_BYTES, "bytes"), (BY_PIL, "pil"), (BY_ARRAY, "array")]
)
def test_the_annotation_says_what_the_function_takes(own, code, takes):
    function = own(code)
    assert function.takes == takes
    pixels = picture()
    for image in (function.image(pixels, SHAPE), function.image_of_file(to_png(pixels), SHAPE)):
        assert image.dtype == np.float32
        np.testing.assert_array_equal(image, resized(pixels))


ANNOTATIONS = [
    ("'bytes'", "bytes"),
    ("bytes | None", "bytes"),
    ("'Image.Image'", "pil"),
    ("Image", "pil"),
    ("'NotImported.Image.Image'", "pil"),
    ("'PIL.Image'", "pil"),
    ("'np.ndarray'", "array"),
    ("np.typing.NDArray[np.uint8]", "array"),
    ("'npt.NDArray[np.uint8]'", "array"),
    ("'Annotated[np.ndarray, 3]'", "array"),
]


@pytest.mark.parametrize(("annotation", "takes"), ANNOTATIONS)
def test_spellings_of_annotations(own, annotation, takes):
    code = f"import numpy.typing\ndef prepare(x: {annotation}, size=8): return x"
    assert own(code).takes == takes


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
def test_postponed_annotations(tmp_path, monkeypatch, future):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_late.py").write_text(
        f"{future}import PIL.Image\ndef prepare(x: PIL.Image.Image) -> None: ..."
    )
    assert load_function("own_late.py:prepare").takes == "pil"


@pytest.mark.parametrize("annotation", ["", ": str", ": 'Path'", ": bytes | np.ndarray", ": list"])
def test_what_no_annotation_says_must_be_stated(own, annotation):
    code = f"def prepare(x{annotation}): return x"
    with pytest.raises(
        SettingError, match=r"Annotate its first parameter: .*takes=bytes\|pil\|array"
    ):
        own(code)
    stated = own(code, suffix=",takes=array")
    assert stated.takes == "array"
    assert stated.text == "own_code.py:prepare,takes=array"
    assert load_function(stated.text).takes == own(code, takes="array").takes == "array"
    assert own(code, takes="array").text == stated.text


def test_what_is_stated_contradicts_the_annotation(own):
    with pytest.raises(SettingError, match="takes pil by its annotation, and takes=bytes"):
        own(BY_PIL, suffix=",takes=bytes")
    assert own(BY_PIL, suffix=", takes=PIL").text == "own_code.py:prepare"
    with pytest.raises(SettingError, match=r"takes='byte'.*Did you mean bytes"):
        own(BY_PIL, suffix=",takes=byte")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("own_code.py", "expected module:function or file.py:function"),
        ("own_code.py:", "expected module:function"),
        ("nothing.py:prepare", "There is no file 'nothing.py'"),
        ("own_code.py:prepaer", "has no 'prepaer'. Did you mean prepare"),
        ("own_code.py:Kind", "is a class; expected a function"),
        ("own_code.py:SIZE", "type int; expected a function"),
        ("own_code.py:two", "cannot be called with one picture: missing a required argument"),
        ("own_code.py:none", "cannot be called with one picture: too many positional"),
        ("a b:prepare", "no name of a module"),
    ],
)
def test_texts_that_name_no_function(own, text, message):
    own(
        BY_PIL + "SIZE = 3\nclass Kind: ...\ndef two(x: bytes, y): ...\ndef none(): ...",
    )
    with pytest.raises(SettingError, match=message):
        load_function(text)


def test_modules_by_name_and_methods_of_objects(own, tmp_path):
    own(
        "class Kind:\n"
        "    def __init__(self, high): self.high = high\n"
        "    def __call__(self, x: np.ndarray): return x[:8, :6] / self.high\n"
        "    def run(self, x: np.ndarray): return x[:8, :6]\n"
        "prepare = Kind(255)\n",
        name="own_module.py",
    )
    pixels = picture()
    called = load_function("own_module:prepare")
    np.testing.assert_array_equal(
        called.image(pixels, SHAPE), (pixels[:8, :6] / 255).astype(np.float32)
    )
    method = load_function("own_module:prepare.run")
    assert method.image(pixels, SHAPE).dtype == np.uint8
    assert called.source_sha256 and called.source_sha256 != method.source_sha256


@pytest.mark.parametrize(
    ("code", "error"), [("raise SystemExit(3)", "SystemExit: 3"), ("1 +", "SyntaxError")]
)
def test_a_module_that_cannot_be_imported(own, code, error):
    with pytest.raises(
        PipelineError, match=f"--preprocess own_code.py:prepare cannot be .*{error}"
    ):
        own(code)


def test_a_module_beside_it_may_be_imported_when_it_is_called(own, tmp_path):
    (tmp_path / "own_helper.py").write_text("high = 255\n")
    path = list(sys.path)
    function = own(
        "def prepare(x: np.ndarray):\n    from own_helper import high\n    return x[:8, :6] / high"
    )
    assert function.image(picture(), SHAPE).max() <= 1
    assert sys.path == path


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("None", "returned None.*return"),
        ("x.tolist()", "returned list; expected an array or tensor"),
        ("Image.fromarray(x)", "returned a PIL image"),
        ("x[:4]", r"returned shape \(4, 6, 3\); the model takes \(8, 6, 3\)"),
        ("np.stack([x, x])", r"shape \(2, 8, 6, 3\).*Return the input for one picture"),
        ("x.transpose(2, 0, 1)", r"shape \(3, 8, 6\).*Its channels are first.*transpose"),
        ("x / 255 * np.where(x < 9, np.nan, 1)", r"returned \d+ numbers of 144 that are NaN"),
        ("x * np.float64(1e300)", "NaN or infinite"),
        ("x > 3", "numbers of the type bool"),
        ("x * 1j", "numbers of the type complex128"),
        ("x.astype(object)", "numbers of the type object"),
        ("iter(x)", "which gives no array"),
        ("np.float32(3)", r"returned shape \(\)"),
    ],
)
def test_results_that_are_no_input_of_the_model(own, result, message):
    function = own(f"def prepare(x: np.ndarray):\n    x = x[:8, :6]\n    return {result}")
    with pytest.raises(
        PipelineError, match=f"(?s)for a picture of 30 × 20 pixels, {message}|{message}"
    ):
        function.image(picture(), SHAPE)


@pytest.mark.parametrize(
    ("result", "dtype"),
    [
        ("x", np.uint8),
        ("x[None]", np.uint8),
        ("x.astype('float16')", np.float32),
        ("x.astype('float64')", np.float32),
        ("x.astype(int)", np.float32),
        ("x[::-1][::-1]", np.uint8),
    ],
)
def test_results_that_are(own, result, dtype):
    function = own(f"def prepare(x: np.ndarray):\n    x = x[:8, :6]\n    return {result}")
    pixels = picture()
    image = function.image(pixels, SHAPE)
    assert image.dtype == dtype and image.flags.c_contiguous
    np.testing.assert_array_equal(image, pixels[:8, :6])


def test_tensors_of_frameworks(own):
    function = own(
        "class Torch:\n"  # as torch.Tensor behaves
        "    requires_grad = True\n"
        "    def __init__(self, x): self.x = x\n"
        "    def detach(self): t = Torch(self.x); t.requires_grad = False; return t\n"
        "    def cpu(self): return self\n"
        "    def numpy(self):\n"
        "        if self.requires_grad: raise RuntimeError('requires grad')\n"
        "        return self.x\n"
        "def prepare(x: np.ndarray): return Torch(x[:8, :6] / np.float32(2))"
    )
    pixels = picture()
    np.testing.assert_array_equal(function.image(pixels, SHAPE), pixels[:8, :6] / np.float32(2))


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "uint8"])
def test_tensors_of_tensorflow(own, kind):
    function = own(
        "def prepare(x: np.ndarray):\n"
        "    import tensorflow as tf\n"
        f"    return tf.cast(x[:8, :6] // 2, '{kind}')[None]"
    )
    pixels = picture() // 2 * 2  # bfloat16 holds whole numbers up to 256
    np.testing.assert_array_equal(function.image(pixels, SHAPE), pixels[:8, :6] // 2)


def test_grey_pictures_and_channels_first(own):
    from dataclasses import replace

    grey = own("def prepare(x: Image.Image):\n    assert x.mode == 'L'\n    return np.asarray(x)")
    pixels = picture(8, 6)[..., :1]
    np.testing.assert_array_equal(grey.image(pixels, (8, 6, 1)), pixels)
    first = own("def prepare(x: np.ndarray): return x[:8, :6].transpose(2, 0, 1)[None] / 255")
    pixels = picture()
    image = replace(first, channels_first=True).image(pixels, SHAPE)
    np.testing.assert_array_equal(image, (pixels[:8, :6] / 255).astype(np.float32))
    with pytest.raises(PipelineError, match="Its channels are last"):
        replace(own(BY_PIL), channels_first=True).image(pixels, SHAPE)


def test_errors_name_the_line_and_the_picture(own):
    function = own(
        "def inner(x):\n    return np.asarray(Image.fromarray(x).crop((0, 0, 6, 8))).reshape(5)\n"
        "def prepare(x: np.ndarray):\n    return inner(x)\n"
    )
    pattern = (
        r"own_code\.py:prepare, for a picture of 30 × 20 pixels, failed: ValueError: cannot reshape.*"
        r"\(line 5 of own_code\.py: return np\.asarray.*\)\.$"
    )
    with pytest.raises(PipelineError, match=pattern):
        function.image(picture(), SHAPE)
    with pytest.raises(PipelineError, match=r"^cat\.jpg: The preprocessing.*ValueError"):
        checked_images(function, [picture()], SHAPE, names=["cat.jpg"])
    leaves = own("def prepare(x: np.ndarray): raise SystemExit(3)")
    with pytest.raises(PipelineError, match="failed: SystemExit: 3 "):
        leaves.image(picture(), SHAPE)


@pytest.mark.parametrize("takes", ["bytes", "pil", "array"])
def test_changes_in_place_reach_nothing_of_ours(own, takes):
    change = {
        "bytes": "x = bytearray(x); x[:] = bytes(len(x)); kept[:] = 1",
        "pil": "x.load(); x.paste((0, 0, 0), (0, 0, 30, 20)); kept[:] = 1",
        "array": "x[:] = 0; kept[:] = x[:8, :6] + 1",
    }[takes]
    function = own(
        f"kept = np.zeros((8, 6, 3), np.float32)\ndef prepare(x): {change}; return kept",
        suffix=f",takes={takes}",
    )
    pixels = picture()
    before = pixels.copy()
    first = function.image(pixels, SHAPE)
    np.testing.assert_array_equal(pixels, before)
    function.function.__globals__["kept"][:] = 7  # the next call fills the same buffer
    np.testing.assert_array_equal(first, 1)
    pixels.setflags(write=False)
    np.testing.assert_array_equal(function.image(pixels, SHAPE), 1)


def test_random_results_are_refused_and_the_difference_named(own):
    noisy = own("def prepare(x: np.ndarray): return x[:8, :6] / 255 + np.random.rand() * 0.5")
    with pytest.raises(
        PipelineError, match=r"gives another number each time.*30 × 20.*by up to 0\.\d"
    ):
        checked_images(noisy, [picture()], SHAPE)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_a_flip_by_chance_is_found(seed):
    rng = np.random.default_rng(seed)
    function = UserFunction("flips", "array", lambda x: x[:8, :6][:: 1 - 2 * rng.integers(2)])
    pictures = [picture(seed=number) for number in range(4)]
    with pytest.raises(PipelineError, match="another number each time"):
        checked_images(function, pictures, SHAPE)


def test_a_result_that_depends_on_the_picture_before_is_refused(own):
    function = own(
        "mean = [0]\n"
        "def prepare(x: np.ndarray):\n"
        "    last, mean[0] = mean[0], x.mean()\n"
        "    return (x[:8, :6] - last).astype('float32')"
    )
    with pytest.raises(PipelineError, match="another number each time"):
        checked_images(function, [picture(seed=n) for n in range(3)], SHAPE)


def test_a_sound_function_is_checked_and_its_images_returned(own):
    pictures = [picture(20, 30), picture(9, 7, 1)]
    images = checked_images(own(BY_BYTES), pictures, SHAPE)
    np.testing.assert_array_equal(images, [resized(one) for one in pictures])
    assert checked_images(own(BY_BYTES), [], SHAPE) == []


def jpeg(pixels: np.ndarray, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif, quality=95)
    return buffer.getvalue()


def test_bytes_and_pil_get_the_file_itself(own):
    data = jpeg(np.full((20, 30, 3), 90, np.uint8), 6)
    hashes = own(
        "import hashlib\n"
        "def prepare(data: bytes):\n"
        "    numbers = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)\n"
        "    return np.resize(numbers, (8, 6, 3))"
    )
    expected = np.resize(np.frombuffer(hashlib.sha256(data).digest(), np.uint8), SHAPE)
    np.testing.assert_array_equal(hashes.image_of_file(data, SHAPE), expected)
    opened = own(
        "def prepare(x: Image.Image):\n"
        "    assert x.format == 'JPEG' and x.getexif()[0x0112] == 6\n"
        "    return np.full((8, 6, 3), x.width)"
    )
    assert opened.image_of_file(data, SHAPE).max() == 30


def test_an_array_is_decoded_as_the_audit_does(own):
    data = jpeg(picture(20, 30), 6)
    function = own("def prepare(x: np.ndarray): return np.full((8, 6, 3), x.shape[0])")
    assert function.image_of_file(data, SHAPE).max() == 30
    assert function.oriented


@pytest.mark.parametrize("turns", [True, False])
@pytest.mark.parametrize("takes", ["bytes", "pil"])
def test_whether_a_function_turns_photographs_is_found(own, takes, turns):
    opened = "Image.open(io.BytesIO(x))" if takes == "bytes" else "x"
    turned = f"ImageOps.exif_transpose({opened})" if turns else opened
    function = own(
        f"def prepare(x): return np.asarray({turned}.resize((6, 8)))", suffix=f",takes={takes}"
    )
    assert function.oriented is turns
    data = jpeg(picture(), 6)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray((ImageOps.exif_transpose(image) if turns else image).resize((6, 8)))
    np.testing.assert_array_equal(function.image_of_file(data, SHAPE), expected)


@pytest.mark.parametrize("data", [b"", b"%!PS-Adobe-3.0 EPSF-3.0", b"\x89PNG\r\n\x1a\n"])
def test_files_that_are_no_pictures_never_reach_the_function(own, data):
    function = own("def prepare(data: bytes): raise SystemExit('reached')")
    with pytest.raises(PipelineError, match="not a picture that is read"):
        function.image_of_file(data, SHAPE)


def entry(function: UserFunction, **changes) -> SimpleNamespace:
    return SimpleNamespace(
        **{
            "name": function.text,
            "takes": function.takes,
            "source_sha256": function.source_sha256,
            "file_sha256": function.file_sha256,
            "imports_sha256": function.imports_sha256 or None,
        }
        | changes
    )


def test_changed_code_is_noticed(own, tmp_path):
    function = own(BY_PIL)
    recorded = entry(function)
    content = (tmp_path / "own_code.py").read_bytes()
    assert function.file_sha256 == hashlib.sha256(content).hexdigest()
    assert function.source_differs(recorded) == ""
    assert own(BY_PIL, name="own_moved.py").source_differs(recorded) == ""
    assert "source" in own(BY_PIL.replace("255", "254")).source_differs(recorded)
    beside = own(f"{BY_PIL}\nSIDE = 9\n").source_differs(recorded)
    assert "The file" in beside and "what it calls may differ" in beside
    assert "takes" in own(BY_BYTES).source_differs(recorded)
    assert function.source_differs(entry(function, source_sha256=None, file_sha256=None)) == ""


def test_a_change_of_an_imported_file_is_noticed(own, tmp_path):
    (tmp_path / "own_steps").mkdir()
    (tmp_path / "own_steps" / "__init__.py").write_text("")
    (tmp_path / "own_steps" / "sizes.py").write_text("from .deeper import SIDE\n")
    (tmp_path / "own_steps" / "deeper.py").write_text("SIDE = 6\n")
    (tmp_path / "own_late.py").write_text("FACTOR = 255\n")
    (tmp_path / "own_stranger.py").write_text("")
    code = """
from own_steps.sizes import SIDE
def prepare(picture: Image.Image):
    from own_late import FACTOR
    return np.asarray(picture.convert("RGB").resize((SIDE, 8))) / FACTOR
"""
    function = own(code)
    names = ["own_late.py", "own_steps/__init__.py", "own_steps/deeper.py", "own_steps/sizes.py"]
    assert list(function.imports) == names
    recorded = entry(function)
    assert own(code).source_differs(recorded) == ""
    (tmp_path / "own_stranger.py").write_text("SIDE = 7\n")
    assert own(code).source_differs(recorded) == ""
    (tmp_path / "own_steps" / "deeper.py").write_text("SIDE = 3 + 3\n")
    said = own(code).source_differs(recorded)
    assert "imports" in said and "own_steps/deeper.py" in said
    assert own(code).source_differs(entry(function, imports_sha256=None)) == ""


def test_files_of_an_installed_package_are_its_own_only(tmp_path):
    place = tmp_path / "site-packages"
    for name in ("theirs", "other"):
        (place / name).mkdir(parents=True)
        (place / name / "__init__.py").write_text("")
    (place / "theirs" / "code.py").write_text("import other\nfrom . import more\nimport os.path\n")
    (place / "theirs" / "more.py").write_text("import theirs.code\n")
    found = imported_files(str(place / "theirs" / "code.py"), "theirs.code")
    assert set(found) == {"theirs/__init__.py", "theirs/more.py"}
    (place / "theirs" / "__init__.py").write_text("from . import code\n")
    found = imported_files(str(place / "theirs" / "__init__.py"), "theirs")
    assert set(found) == {"theirs/code.py", "theirs/more.py"}
    assert imported_files("", "anything") == {} and digest_of({}) == ""


def test_a_file_that_is_no_python_imports_nothing(tmp_path):
    (tmp_path / "odd.py").write_bytes(b"import \0 this")
    assert imported_files(str(tmp_path / "odd.py"), "odd") == {}


def test_code_that_a_configuration_names_is_not_run_untyped():
    with pytest.raises(SettingError, match=r"audit\.toml names .*evil.*type --preprocess"):
        expect_typed("evil.py:prepare", typed=False)
    expect_typed("good.py:prepare", typed=True)
