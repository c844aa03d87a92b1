"""Scans untrusted model files, and loads those that are safe with Keras.

`scan` inspects a file without Keras or TensorFlow and without running anything in it. `load_model` and
`load_weights` scan first and refuse a file with findings unless the user trusts it.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import IO, Any

from robustness.errors import ModelError, UnsafeModelError
from robustness.files import bounded
from robustness.files.disk_errors import expect_named
from robustness.models.scan import limited_process
from robustness.models.scan.config_safety import MAX_OBJECTS, config_findings, is_remote, quote
from robustness.models.scan.hdf5 import MAX_EXPANSION, H5Facts, h5_facts
from robustness.models.scan.model_size import measure
from robustness.models.suffixes import HDF5_SUFFIXES, KERAS_SUFFIX, MODEL_SUFFIXES

OLDEST_SAFE_KERAS = (3, 15, 1)
ACCEPTED = "a .keras file, or a .h5 / .hdf5 file with a whole model"
MAX_MEMBERS = 10_000
MAX_DIRECTORY_BYTES = 4 << 20
MAX_CONFIG_BYTES = 16 << 20
"""The configuration of EfficientNetV2L, with a thousand layers, takes 1 MiB."""
MAX_CONFIG_DEPTH = 200
MAX_CONFIG_VALUES = 10 * MAX_OBJECTS
"""Most commas and brackets, counted before parsing, those within strings included."""
MAX_MEMBER_BYTES = 16 << 30
_TRUST = "Load it only if you trust who made it: --trust-model (in Python trust_model=True)."
_REBUILD = "rebuild the architecture in Keras and copy the weights"
_PICKLE = "a pickle runs code when it is opened; save the model with model.save('model.keras')"
_CONVERSIONS = {
    ".pb": "load it where it was made and save it with model.save('model.keras')",
    ".tflite": "a TFLite file holds no gradients; audit the Keras model it was made from",
    **dict.fromkeys((".onnx", ".pt", ".pth", ".safetensors"), _REBUILD),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), _PICKLE),
}


@dataclass(frozen=True)
class ScanReport:
    """The result of a scan of a model file.

    Attributes
    ----------
    name : file name without its folder.
    format : `keras` or `h5` for a whole model, `weights` for weights only.
    sha256 : SHA-256 of the file.
    size : size of the file in bytes.
    findings : reasons not to load the file, each a sentence part that names the place.
    notes : remarks that do not prevent loading.
    keras_version : the version of Keras that wrote the file, if stated.
    trial : why the model must first be loaded in a process with limits; "" if it need not be.
    layout : of a weights file, `keras3` or `keras2`.
    """

    name: str
    format: str
    sha256: str
    size: int
    findings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    keras_version: str | None = None
    trial: str = ""
    layout: str = field(default="", repr=False)

    @property
    def safe(self) -> bool:
        """Whether the scan has no findings."""
        return not self.findings


def scan(path: str | Path) -> ScanReport:
    """Inspect a model file without loading it, without Keras or TensorFlow, and without running its code.

    Raises
    ------
    ModelError
        The file is missing, damaged, or of another kind.
    """
    file = _local_file(path)
    with file.open("rb") as stream:
        magic = stream.read(8)
        stream.seek(0)
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        size = stream.tell()
        stream.seek(0)
        suffix = file.suffix.lower()
        if suffix == KERAS_SUFFIX and magic.startswith(b"PK"):
            facts = _scan_zip(stream, size, file.name)
        elif suffix in HDF5_SUFFIXES and magic == b"\x89HDF\r\n\x1a\n":
            facts = _scan_h5(stream, size, file.name)
        elif suffix in MODEL_SUFFIXES:
            kind = "zip archive" if suffix == KERAS_SUFFIX else "HDF5 file"
            raise ModelError(
                f"{quote(file.name)} is not the {kind} its name promises (it begins with "
                f"{magic[:4]!r}); it may be cut short or renamed. Save the model again."
            )
        else:
            raise ModelError(_unsupported(file))
    notes = (*facts.pop("notes", ()), *_version_notes())
    return ScanReport(file.name, sha256=sha256, size=size, notes=notes, **facts)


def load_model(path: str | Path, trust: bool = False) -> Any:
    """Scan a `.keras` or `.h5` file and load its model with Keras, not compiled.

    If the sizes of its layers cannot be computed from its configuration, or are unusually large, the model is
    first loaded and called in a separate process with limits on memory and time.

    Parameters
    ----------
    path : a local file.
    trust : load a file despite findings and without the separate process, and let it run code.

    Raises
    ------
    UnsafeModelError
        The scan has findings, or a limit is exceeded.
    ModelError
        The file is missing, damaged or of another kind, holds weights only, or Keras cannot load it.
    """
    report = scan(path)
    if report.format == "weights":
        raise ModelError(
            f"{quote(report.name)} holds weights without an architecture; expected {ACCEPTED}. "
            "Build the model in Python and load them with loading.load_weights(model, path)."
        )
    refuse(report, trust)
    if report.trial and not trust:
        _tried(Path(path), report)
    return opened(path, trust)


def opened(path: str | Path, trust: bool = False) -> Any:
    """Load the model in a scanned file. Raises ModelError if Keras cannot load it."""
    import keras  # noqa: PLC0415 - scans need no framework

    with _explained(Path(path).name, "load"):
        return keras.saving.load_model(Path(path), compile=False, safe_mode=not trust)


def _tried(path: Path, report: ScanReport) -> None:
    """Load and call the model in a process with limits; UnsafeModelError if one is exceeded."""
    ended = limited_process.run_limited("robustness.models.scan.trial_load", str(path.resolve()))
    if ended.reason:
        raise UnsafeModelError(
            f"{quote(report.name)} was loaded and called on twelve images in a process of its own, "
            f"since {report.trial}; {ended.reason}. {_TRUST}"
        )
    if ended.told["error"] and not _ours(ended.told["missing"]):
        raise ModelError(ended.told["error"])


def _ours(missing: list[str]) -> bool:
    """Whether one of the names that the trial did not find is registered in this process.

    A custom layer of the caller exists in this process only, so that a trial in another one cannot load it.
    """
    import keras  # noqa: PLC0415

    return any(keras.saving.get_registered_object(name) is not None for name in missing)


def load_weights(model: Any, path: str | Path, trust: bool = False) -> None:
    """Load the weights of a file (any layout of Keras 2 or 3) into a built Keras `model`.

    Raises
    ------
    UnsafeModelError
        The scan has findings and `trust` is False.
    ModelError
        The file cannot be read, or does not match the architecture.
    """
    report = scan(path)
    refuse(report, trust)
    source = Path(path)
    with contextlib.ExitStack() as stack:
        wanted = {"keras3": ".weights.h5", "keras2": ".h5"}.get(report.layout, "")
        if wanted and source.name.endswith(".weights.h5") != (wanted == ".weights.h5"):
            # Keras selects the reader by the name of the file, not by its content.
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            source = Path(shutil.copyfile(source, Path(folder) / f"copy{wanted}"))
        stack.enter_context(_explained(report.name, "fit the weights of"))
        model.load_weights(source)


def refuse(report: ScanReport, trust: bool) -> None:
    """Raise UnsafeModelError for a file with findings unless the user trusts it."""
    if report.safe or trust:
        return
    listed = "; ".join(report.findings[:5])
    more = f"; and {len(report.findings) - 5} more" if len(report.findings) > 5 else ""
    raise UnsafeModelError(
        f"{quote(report.name)} could run code, read other files or take all memory when loaded: "
        f"{listed}{more}. {_TRUST}"
    )


@contextlib.contextmanager
def _explained(name: str, action: str) -> Iterator[None]:
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        # Layers may raise any exception; the user gets one sentence instead of a traceback.
        lines = str(error).strip().splitlines() or [""]
        reason = f"{type(error).__name__}: {lines[0][:300]}"
        advice = "Check that file and architecture belong together"
        if "Could not locate" in str(error) or "Unknown layer" in str(error):
            advice = (
                "It uses layers or functions that the file only names: build the model in Python "
                "(own layers registered by keras.saving.register_keras_serializable) and hand it "
                "to Classifier, or save a .h5 with operations as .keras"
            )
        raise ModelError(f"Keras could not {action} {quote(name)} ({reason}). {advice}.") from error


def _local_file(path: str | Path) -> Path:
    if is_remote(path):
        raise ModelError(
            f"{quote(path)} is a remote address; expected a local file. Download it, look at where "
            "it comes from, and give the path of the copy."
        )
    expect_named(path, "The path of the model")
    file = Path(path)
    if file.is_dir():
        raise ModelError(_unsupported(file))
    if not file.is_file():
        raise ModelError(f"There is no model file {quote(path, 200)}; expected {ACCEPTED}.")
    return file


def _unsupported(file: Path) -> str:
    advice = _CONVERSIONS.get(file.suffix.lower(), "save the model with model.save('model.keras')")
    kind = f"a {file.suffix} file" if file.suffix else "a file without an extension"
    if file.is_dir():
        kind = "a folder"
        if (file / "saved_model.pb").is_file():
            kind, advice = "a SavedModel folder", _CONVERSIONS[".pb"]
        elif (file / "config.json").is_file():
            kind, advice = "an unpacked Keras folder", "save with model.save('model.keras')"
    return f"{quote(file.name)} is {kind}; expected {ACCEPTED}. To convert: {advice}."


def _version_notes() -> tuple[str, ...]:
    try:
        version = metadata.version("keras")
    except metadata.PackageNotFoundError:
        return ("Keras is not installed, so the file can be scanned but not loaded.",)
    numbers = tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
    if numbers >= OLDEST_SAFE_KERAS:
        return ()
    wanted = ".".join(map(str, OLDEST_SAFE_KERAS))
    return (f"Keras {version} has known holes in loading models; upgrade to {wanted} or later.",)


def _scan_zip(stream: IO[bytes], size: int, name: str) -> dict[str, Any]:
    try:
        if bounded.zip_directory_bytes(stream) > MAX_DIRECTORY_BYTES:
            raise ModelError(
                f"The archive {quote(name)} lists more members than a model has; save the model again."
            )
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            findings = _member_findings(members, size)
            if findings:
                return {"format": "keras", "findings": tuple(findings)}
            config = _parse(_read(archive, "config.json", name), name)
            findings += config_findings(config)
            facts = bounded.parse_json(_read(archive, "metadata.json", name, False) or b"{}")
            weights = _archived_weights(archive, name)
            sizes = measure(config, weights.numbers)
            findings += weights.findings + sizes.findings
    except ModelError:
        raise
    # For a damaged file zipfile raises BadZipFile, zlib.error, struct.error, IndexError, ...
    except Exception as error:
        raise _damaged(name, error) from error
    known = ("config.json", "metadata.json", "model.weights.h5")
    notes = [f"carries {quote(m.filename)}" for m in members if m.filename not in known]
    version = facts.get("keras_version") if isinstance(facts, dict) else None
    return {
        "format": "keras",
        "findings": tuple(findings),
        "notes": tuple(notes[:20]),
        "keras_version": str(version)[:40] if version else None,
        "trial": sizes.trial,
    }


def _member_findings(members: list[zipfile.ZipInfo], size: int) -> list[str]:
    if len(members) > MAX_MEMBERS:
        return [f"the archive has {len(members)} members; at most {MAX_MEMBERS} are read"]
    found = []
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        found.append("the archive has several members of one name, so readers may disagree")
    for member in members:
        place = f"member {quote(member.filename)}"
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in member.filename:
            found.append(f"{place} points outside the archive")
        if stat.S_ISLNK(member.external_attr >> 16):
            found.append(f"{place} is a symbolic link")
        cap = MAX_CONFIG_BYTES if path.suffix == ".json" else MAX_MEMBER_BYTES
        bomb = member.file_size > max(1 << 20, MAX_EXPANSION * member.compress_size)
        if bomb or member.file_size > cap:
            found.append(
                f"{place} claims {member.file_size} bytes from {member.compress_size} stored; "
                f"at most {cap} bytes and {MAX_EXPANSION} times its stored size are read"
            )
    if sum(member.compress_size for member in members) > size:
        found.append("the members of the archive lie upon one another, as only bombs do")
    if sum(member.file_size for member in members) > MAX_MEMBER_BYTES:
        found.append(f"the archive unpacks to more than {MAX_MEMBER_BYTES} bytes")
    if "model.weights.npz" in names:
        found.append("the weights are a .npz archive, which is not checked; save them as HDF5")
    return found


def _read(archive: zipfile.ZipFile, member: str, name: str, required: bool = True) -> bytes:
    if member not in archive.namelist():
        if not required:
            return b""
        raise ModelError(f"{quote(name)} has no {member}, so it is no Keras model. Save it again.")
    with archive.open(member) as stream:
        data = stream.read(MAX_CONFIG_BYTES + 1)
    if len(data) > MAX_CONFIG_BYTES:
        raise ModelError(f"The {member} of {quote(name)} is larger than {MAX_CONFIG_BYTES} bytes.")
    return data


def _parse(text: bytes | str, name: str) -> dict[str, Any]:
    try:
        config = bounded.parse_json(
            text,
            max_bytes=MAX_CONFIG_BYTES,
            max_values=MAX_CONFIG_VALUES,
            max_depth=MAX_CONFIG_DEPTH,
            finite=False,
        )
    except ValueError as error:
        raise _damaged(name, error) from error
    if not isinstance(config, dict):
        raise ModelError(f"The configuration in {quote(name)} is no object; save the model again.")
    return config


def _archived_weights(archive: zipfile.ZipFile, name: str) -> H5Facts:
    if "model.weights.h5" not in archive.namelist():
        raise ModelError(f"{quote(name)} has no weights inside; save the model again.")
    # Copied to a file, since HDF5 needs random access, which a compressed member does not offer.
    with archive.open("model.weights.h5") as member, tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(member, copy, 1 << 20)
        size = copy.tell()
        copy.seek(0)
        return _with_h5(copy, name, lambda file: h5_facts(file, size))


def _scan_h5(stream: IO[bytes], size: int, name: str) -> dict[str, Any]:
    return _with_h5(stream, name, lambda file: _h5_scanned(file, size, name))


def _h5_scanned(file: Any, size: int, name: str) -> dict[str, Any]:
    told = h5_facts(file, size)
    findings = told.findings
    if not told.words:
        return {"format": "h5", "findings": tuple(findings)}
    version = file.attrs.get("keras_version")
    version = version.decode("utf-8", "replace") if isinstance(version, bytes) else version
    facts: dict[str, Any] = {"format": "weights", "keras_version": version and str(version)[:40]}
    if "model_config" in file.attrs:
        text = file.attrs["model_config"]
        if not isinstance(text, str | bytes):
            raise ModelError(f"The configuration in {quote(name)} is not text; save it again.")
        config = _parse(text, name)
        sizes = measure(config, told.numbers)
        findings = config_findings(config) + findings + sizes.findings
        facts |= {"format": "h5", "trial": sizes.trial}
    elif "layer_names" in file.attrs or "layer_names0" in file.attrs:
        facts["layout"] = "keras2"
    elif {"layers", "vars", "_layer_checkpoint_dependencies"} & set(file):
        facts["layout"] = "keras3"
    elif not findings:
        raise ModelError(
            f"{quote(name)} holds neither a Keras model nor Keras weights; expected {ACCEPTED}."
        )
    return {**facts, "findings": tuple(findings)}


def _with_h5(stream: IO[bytes], name: str, look: Callable[[Any], Any]) -> Any:
    import h5py  # noqa: PLC0415 - needed for HDF5 files only

    try:
        with h5py.File(stream, "r") as file:
            return look(file)
    except ModelError:
        raise
    # For a damaged file h5py raises OSError, KeyError, RuntimeError, ...
    except Exception as error:
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> ModelError:
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return ModelError(f"{quote(name)} is damaged ({reason}). Copy it or save the model again.")
