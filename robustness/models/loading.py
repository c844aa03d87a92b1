"""Loads model files that are safe with Keras.

`scan` inspects a file without Keras or TensorFlow and without running anything in it. `load_model` and
`load_weights` scan first and refuse a file with findings unless the user trusts it. What Keras 1 or 2 has
written is converted (`legacy`); the file itself is never changed.
"""

from __future__ import annotations

import contextlib
import copy
import math
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from robustness.errors import ModelError, UnsafeModelError
from robustness.models import user_code
from robustness.models.deep_graphs import deep_graphs
from robustness.models.formats import ACCEPTED
from robustness.models.legacy.conversion import Conversion
from robustness.models.scan import limited_process
from robustness.models.scan.config_safety import quote
from robustness.models.scan.report import ScanReport, scan

__all__ = ["ScanReport", "load_model", "load_weights", "opened", "refuse", "scan"]

_TRUST = "Load it only if you trust who made it: --trust-model (in Python trust_model=True)."


def load_model(
    path: str | Path,
    trust: bool = False,
    architecture: str | None = None,
    imports: Sequence[str] = (),
) -> Any:
    """Scan a model file and load its model with Keras, not compiled. Its bytes decide what it is.

    If the sizes of its layers cannot be computed from its configuration, or are unusually large, the model is
    first loaded and called in a separate process with limits on memory and time.

    Parameters
    ----------
    path : a local file.
    trust : load a file despite findings and without the separate process, and let it run code.
    architecture : the model to which only the weights of the file are loaded (see `architecture.build`); None
        for the model in the file.
    imports : files or modules that define own layers of the model (`user_code`); needs `trust`.

    Raises
    ------
    UnsafeModelError
        The scan has findings, or a limit is exceeded.
    ModelError
        The file is missing, damaged or of another kind, holds weights only, or Keras cannot load it.
    """
    if architecture:
        return _built(architecture, path, trust)
    report = scan(path)
    if report.format == "weights":
        raise ModelError(
            f"{quote(report.name)} holds weights without an architecture; expected {ACCEPTED}. Name the "
            "model that they belong to: --architecture keras.applications:NAME, model.json or "
            "module:function (in Python architecture=)."
        )
    objects = user_code.custom_objects(imports, trust)
    refuse(report, trust)
    try:
        if report.unconverted and not trust:
            raise unconverted(report)
        if report.trial and not trust:
            _tried(Path(path), report)
        return opened(path, trust, report, objects)
    except UnsafeModelError:
        raise
    except ModelError as error:
        if objects or not _by_tf_keras(report):
            raise
        return _opened_by_tf_keras(path, trust, error)


def _opened_by_tf_keras(path: str | Path, trust: bool, first: ModelError) -> Any:
    """The model as tf_keras loads it in a process of its own; both causes if that fails, too."""
    from robustness.models import old_keras  # noqa: PLC0415 - needs Keras

    try:
        return old_keras.opened(path, trust)
    except ModelError as second:
        raise ModelError(f"{first} {second}") from first


def _by_tf_keras(report: ScanReport) -> bool:
    """Whether tf_keras may load what Keras 3 cannot: a file of Keras 2, where it is installed."""
    from robustness.models import old_keras  # noqa: PLC0415

    keras1 = report.conversion is not None and report.conversion.keras1
    # tf_keras has the version of its TensorFlow.
    version = report.keras_version or ("1." if keras1 else "2")
    return version.startswith("2") and old_keras.installed()


def _built(architecture: str, path: str | Path, trust: bool) -> Any:
    """The model that `architecture` names, with the weights of a file."""
    from robustness.models.architecture import build  # noqa: PLC0415 - builds with Keras

    scan(path)  # a file that is no model is refused before the user's code runs
    model = build(architecture, trust=trust)
    load_weights(model, path, trust)
    return model


def unconverted(report: ScanReport) -> ModelError:
    """Return the error for a file of Keras 1 or 2 that cannot be converted."""
    source = f"Keras {report.keras_version}" if report.keras_version else "an old Keras"
    return ModelError(
        f"{quote(report.name)} was saved by {source}, and {report.unconverted}. Load it where it was "
        "made and save it with Keras 3 (model.save('model.keras')); or build the same model in Keras 3 and "
        "load the weights of this file into it (--architecture)."
    )


@deep_graphs()
def opened(
    path: str | Path,
    trust: bool = False,
    report: ScanReport | None = None,
    objects: Mapping[str, Any] | None = None,
) -> Any:
    """Load the model in a file that was scanned.

    Parameters
    ----------
    path : the file.
    trust : let the file run code.
    report : the result of its scan; scanned again if not given.
    objects : own classes and functions of the model, by name.

    Raises
    ------
    ModelError
        Keras cannot load it.
    """
    import keras  # noqa: PLC0415 - scans need no framework

    report = report or scan(path)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_explained(report.name, "load"))
        stack.enter_context(
            keras.saving.custom_object_scope({**_named_only(report), **(objects or {})})
        )
        # Keras selects the reader by the name of the file, not by its content.
        source = stack.enter_context(_named(Path(path), f".{report.format}"))
        stack.enter_context(warnings.catch_warnings())
        # Of own layers without a method `build`. Weights that such a layer then lacks are an error.
        warnings.filterwarnings("ignore", r"`build\(\)` was called on layer", UserWarning)
        if report.conversion is not None:
            return _converted(source, report, report.conversion, trust)
        model = keras.saving.load_model(source, compile=False, safe_mode=not trust)
        if objects and report.format == "keras":
            _expect_all_weights(model, source)
        return model


def _named_only(report: ScanReport) -> dict[str, Any]:
    """The operations of Keras that its HDF5 files state by name only, unless the user has such a name."""
    converted = report.conversion is not None and not report.conversion.completed
    if report.format != "h5" or converted:
        return {}
    import keras  # noqa: PLC0415

    from robustness.backend import _private  # noqa: PLC0415

    own = {name.rpartition(">")[2] for name in keras.saving.get_custom_objects()}
    return {name: kind for name, kind in _private.operations().items() if name not in own}


def _expect_all_weights(model: Any, source: Path) -> None:
    """Raise ModelError if an archive has more numbers than the model took: a class with too few layers.

    Keras leaves out silently what no layer asks for.
    """
    import h5py  # noqa: PLC0415

    sizes: list[int] = []
    with zipfile.ZipFile(source) as archive, tempfile.TemporaryFile() as copied:
        with archive.open("model.weights.h5") as member:
            shutil.copyfileobj(member, copied, 1 << 20)
        with h5py.File(copied, "r") as file:
            for name in (name for name in file if name != "optimizer"):
                file[name].visititems(
                    lambda _, one: sizes.append(int(getattr(one, "size", 0) or 0))
                )
    taken = sum(math.prod(variable.shape) for variable in model.variables)
    if sum(sizes) > taken:
        raise ModelError(
            f"The file holds {sum(sizes):,} numbers in its weights, and the model takes {taken:,} of "
            "them: the imported class has fewer or smaller layers than the one that was saved. Give the "
            "code that the model was saved with."
        )


def _converted(source: Path, report: ScanReport, conversion: Conversion, trust: bool) -> Any:
    """The model of a file, from its converted or completed configuration and its weights."""
    import keras  # noqa: PLC0415

    # Older versions store the name of a custom class without its package.
    registered = {
        name.rpartition(">")[2]: kind for name, kind in keras.saving.get_custom_objects().items()
    }
    model = keras.saving.deserialize_keras_object(
        copy.deepcopy(conversion.config), custom_objects=registered, safe_mode=not trust
    )
    if not model.built:
        raise ModelError(f"{quote(report.name)} states no input shape, so that it cannot be built")
    if report.format == "keras":
        _load_archived(model, source)
        return model
    _load_ordered(model, source, report)
    if conversion.completed and (supposed := _supposed(model)):
        model.reading = supposed
    return model


def _supposed(model: Any) -> str:
    """Which layers of a file that states no modules were taken as those of `keras.applications`."""
    from robustness.backend import _private  # noqa: PLC0415

    kinds = {type(layer) for layer in _private.every_layer(model)}
    named = sorted(
        (kind.__name__, kind.__module__.rpartition(".")[2])
        for kind in kinds
        if kind.__module__.startswith("keras.src.applications.")
    )
    return "; ".join(
        f"layer {name} read as that of keras.applications.{module}" for name, module in named
    )


def _load_archived(model: Any, source: Path) -> None:
    """Load the weights in a `.keras` archive into a model that Keras 2 has saved."""
    import h5py  # noqa: PLC0415

    from robustness.models.legacy import archives  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        # Keras would read HDF5 through the archive, which takes many times as long.
        weights = Path(folder) / "stored.weights.h5"
        with (
            zipfile.ZipFile(source) as archive,
            archive.open("model.weights.h5") as member,
            weights.open("wb") as copied,
        ):
            shutil.copyfileobj(member, copied, 1 << 20)
        with h5py.File(weights, "r") as file:
            if archives.needs_rewriting(file):
                weights = Path(folder) / "renamed.weights.h5"
                with h5py.File(weights, "w") as target:
                    archives.rewrite(file, model, target)
        with warnings.catch_warnings():
            # Of containers that only Keras 3 has.
            warnings.simplefilter("ignore", UserWarning)
            model.load_weights(weights)


@contextlib.contextmanager
def _named(path: Path, suffix: str) -> Iterator[Path]:
    """The path of a file under a name with `suffix`: a link in a temporary folder if it has another one."""
    weights = path.name.endswith(".weights.h5")
    if path.name.endswith(suffix) and weights == (suffix == ".weights.h5"):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / f"model{suffix}"
        try:
            other.symlink_to(path.resolve())
        except OSError:  # systems without links
            shutil.copyfile(path, other)
        yield other


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
    # The configuration in the file is not used.
    refuse(replace(report, findings=report.file_findings), trust)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_explained(report.name, "fit the weights of"))
        if report.format == "keras":
            _load_archived(model, stack.enter_context(_named(Path(path), ".keras")))
        elif report.layout == "keras3":
            source = stack.enter_context(_named(Path(path), ".weights.h5"))
            with warnings.catch_warnings():
                # Keras warns, then raises an error.
                warnings.simplefilter("ignore", UserWarning)
                model.load_weights(source)
        else:
            _load_ordered(model, Path(path), report)


def _load_ordered(model: Any, path: Path, report: ScanReport) -> None:
    """Load the weights of an HDF5 file in the layout of Keras 1 and 2 into a model."""
    import h5py  # noqa: PLC0415

    from robustness.models.legacy.weights import load_hdf5_weights  # noqa: PLC0415

    conversion = report.conversion
    keras1 = (report.keras_version or "").startswith("1.") or bool(conversion and conversion.keras1)
    turned = report.backend == "theano" or bool(conversion and conversion.turned)
    with h5py.File(path, "r") as file:
        try:
            load_hdf5_weights(model, file, keras1=keras1, turned=turned)
        except ModelError as error:
            raise ModelError(
                f"The weights in {quote(report.name)} do not fit the layers: {error}. Check that file and "
                "architecture belong together."
            ) from error


def refuse(report: ScanReport, trust: bool) -> None:
    """Raise UnsafeModelError for a file with findings unless the user trusts it."""
    if report.safe or trust:
        return
    listed = "; ".join(report.findings[:5])
    more = f"; and {len(report.findings) - 5} more" if len(report.findings) > 5 else ""
    own = any("not a Keras layer or helper" in finding for finding in report.findings)
    code = " A layer of the author's own also needs its code: --import FILE.py." if own else ""
    raise UnsafeModelError(
        f"{quote(report.name)} could run code, read other files or take all memory when loaded: "
        f"{listed}{more}. {_TRUST}{code}"
    )


@contextlib.contextmanager
def _explained(name: str, action: str) -> Iterator[None]:
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        # Layers may raise any exception; the user gets one sentence instead of a traceback.
        # Keras puts the reason after the whole configuration.
        text = str(error).rpartition("Exception encountered:")[2]
        lines = text.strip().splitlines() or [""]
        reason = f"{type(error).__name__}: {lines[0].partition('. Make sure')[0][:300]}"
        advice = "Check that file and architecture belong together"
        if "Could not locate" in str(error) or "Unknown layer" in str(error):
            advice = user_code.advice(user_code.missing_names(error))
        raise ModelError(f"Keras could not {action} {quote(name)} ({reason}). {advice}.") from error
