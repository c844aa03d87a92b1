"""Registry of models: `load` returns a Classifier by name or source, `list_models` lists the names.

Every name, the built-in ones included, is an entry point of the group `robustness.models`: a callable
without arguments that returns a Classifier. One made with `zoo_model` also describes itself, so that listing
models needs neither weights nor TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from robustness import environment, plugins
from robustness.errors import ModelError, RobustnessError, SettingError, UnsafeModelError
from robustness.files.disk_errors import expect_named
from robustness.files.remote import fetched, is_remote
from robustness.model_zoo.info import ModelInfo
from robustness.model_zoo.kaggle.source import FORMS, MODEL_FILE, KaggleSource, fetch
from robustness.models.suffixes import is_model_file_name
from robustness.text import did_you_mean

if TYPE_CHECKING:
    from robustness.models.classifier import Classifier

GROUP = plugins.MODELS
SOURCES = f"a name from the zoo, the path of a {MODEL_FILE}, {FORMS['kaggle']}, or {FORMS['kaggle-model']}"


def list_models() -> list[ModelInfo]:
    """List every model of the zoo by name.

    For a plug-in that cannot be imported, the summary states the reason.
    """
    known = plugins.names(GROUP)
    passed = [one for name in known for one in plugins.passed_over(GROUP, name)]
    return [_info(name) for name in known] + [ModelInfo(one.name, one.reason) for one in passed]


def load(
    name_or_source: str | Path,
    *,
    trust_model: bool = False,
    class_names: Sequence[str] | None = None,
    scaling: Any = None,
    imports: Sequence[str] = (),
    **reading: Any,
) -> Classifier:
    """Load the model that `name_or_source` names, without falling back to another one.

    Parameters
    ----------
    name_or_source
        A name from the zoo, the path or URL of a model file (`models.suffixes.MODEL_SUFFIXES`), or a model on
        Kaggle (see `kaggle.source`). An HDF5 file with weights only is read as weights of the network of the
        Dogs-vs-Cats notebook.
    trust_model
        Whether to load a file although its scan found something that could run code; see `Classifier.load`.
    class_names, scaling
        For a file that does not state them; see `Classifier.load`. A model of the zoo has its own scaling,
        and takes other names for its classes, in the order of its outputs.
    imports
        Python files or modules that define own layers of the model; see `Classifier.load`.
    reading
        The options `head`, `input_size`, `image_input`, `constants` and `output` of an audit, for a file.

    Returns
    -------
    The model.

    Raises
    ------
    SettingError
        The name is unknown, or the source is data.
    ModelError
        The file is not a usable model, or the plug-in of the model fails.
    FetchError
        The download fails.
    """
    expect_named(name_or_source, "The name or path of the model")
    text = str(name_or_source)
    if isinstance(name_or_source, str) and text.partition(":")[0] in FORMS:
        if not KaggleSource.parse(text).is_model:
            raise SettingError(
                f"{text!r} is data, not a model; expected {SOURCES}. Use fetch to download data."
            )
        return _from_file(fetch(text), trust_model, class_names, scaling, imports, reading)
    expect_known(name_or_source)
    if is_remote(name_or_source):
        return _from_file(fetched(text), trust_model, class_names, scaling, imports, reading)
    if isinstance(name_or_source, Path) or text not in plugins.names(GROUP):
        return _from_file(Path(text), trust_model, class_names, scaling, imports, reading)
    if scaling is not None or reading:
        raise SettingError(
            f"The model {text!r} of the zoo has its own scaling, head and inputs; leave them out, or load a "
            "file."
        )
    return _made(text) if class_names is None else _made(text).with_class_names(class_names)


def expect_known(name_or_source: str | Path) -> None:
    """Raise SettingError unless this is a name of the zoo, a Kaggle source, or the path of a file.

    Imports no framework. A path that ends like a model file counts, although the file may be missing.
    """
    text = str(name_or_source)
    if isinstance(name_or_source, Path) or is_model_file_name(text) or is_remote(text):
        return
    if text.partition(":")[0] in FORMS or text in plugins.names(GROUP) or Path(text).exists():
        return
    raise SettingError(_unknown(text))


def downloaded(name: object) -> Path | None:
    """Return the path of a model on Kaggle, after its download; None if `name` names none."""
    text = str(name)
    if text.partition(":")[0] not in FORMS or not KaggleSource.parse(text).is_model:
        return None
    return fetch(text)


def classes_of(name: object) -> tuple[str, ...] | None:
    """Return the class names of a model of the zoo without loading it; None if they are not known."""
    if not isinstance(name, str) or name not in plugins.names(GROUP):
        return None
    return _info(name).classes or None


def _from_file(
    path: Path,
    trust: bool,
    class_names: Sequence[str] | None,
    scaling: Any,
    imports: Sequence[str],
    reading: Mapping[str, Any],
) -> Classifier:
    from robustness.models import loading  # noqa: PLC0415

    with environment.quiet_import():
        from robustness.models.adapter import InputAdapter  # noqa: PLC0415 (imports TensorFlow)
        from robustness.models.classifier import Classifier  # noqa: PLC0415

    report = loading.scan(path)
    if report.format != "weights":
        return Classifier.load(
            path,
            class_names=class_names,
            scaling=scaling,
            trust_model=trust,
            imports=imports,
            head=reading.get("head"),
            adapter=InputAdapter.of(reading),
        )
    from robustness.model_zoo.dogs_vs_cats import zoo  # noqa: PLC0415

    try:
        return zoo.from_notebook_weights(
            path, trust=trust, class_names=class_names, scaling=scaling
        )
    except UnsafeModelError:
        raise
    except ModelError as error:
        raise ModelError(
            f"{path.name!r} holds weights without an architecture, and they do not fit the network of the "
            "Dogs-vs-Cats notebook. Name the model that they belong to: --architecture "
            "keras.applications:NAME, model.json or module:function (in Python architecture=)."
        ) from error


def _loader(name: str) -> Callable[[], Classifier]:
    try:
        loader = plugins.load(GROUP, name)
    except SettingError as error:
        raise ModelError(str(error)) from error
    if not callable(loader):
        raise ModelError(
            f"The plug-in of the model {name!r} is {type(loader).__name__}; "
            f"expected a callable that returns a Classifier."
        )
    return loader


def _made(name: str) -> Classifier:
    """The model of a plug-in; ModelError if the plug-in fails."""
    with environment.quiet_import():
        loader = _loader(name)
        kind = import_module("robustness.models.classifier").Classifier
    try:
        made = loader()
    except (KeyboardInterrupt, RobustnessError):
        raise
    except BaseException as error:  # a plug-in may raise anything
        lines = str(error).strip().splitlines() or ["no reason given"]
        raise ModelError(
            f"The plug-in of the model {name!r} failed to load it: {type(error).__name__}: {lines[0][:300]}."
        ) from error
    if not isinstance(made, kind):
        raise ModelError(
            f"The plug-in of the model {name!r} returned {type(made).__name__}; expected a Classifier, such "
            "as robustness.Classifier(model, scaling='0..1', class_names=['cat', 'dog'])."
        )
    return cast("Classifier", made)


def _info(name: str) -> ModelInfo:
    try:
        loader = _loader(name)
        source = plugins.point(GROUP, name).value
    except (ModelError, SettingError) as error:
        return ModelInfo(name, str(error))
    info = getattr(loader, "info", None)
    if isinstance(info, ModelInfo):
        return replace(info, name=name)
    summary = (loader.__doc__ or "").strip().partition("\n")[0]
    return ModelInfo(name, summary, source=source)


def _unknown(text: str) -> str:
    names = plugins.names(GROUP)
    if not names:
        return (
            f"There is no model {text!r}: no models are registered, because the toolkit is not "
            f"installed. Run `pip install .` in its folder."
        )
    hint = did_you_mean(text, names)
    return f"There is no model {text!r}. The zoo has: {', '.join(names)}. Expected {SOURCES}.{hint}"
