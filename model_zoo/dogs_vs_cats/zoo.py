"""The Dogs-vs-Cats models of the zoo: the notebook's network with the bundled weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustness.errors import ModelError
from robustness.model_zoo.info import ModelInfo, zoo_model

if TYPE_CHECKING:
    from robustness.models.classifier import Classifier

WEIGHTS = Path(__file__).with_name("weights") / "dogs-vs-cats.npz"
ROBUST_WEIGHTS = WEIGHTS.parent / "robust" / "dogs-vs-cats-robust.npz"
NOTEBOOK = "kaggle:uysimty/keras-cnn-dog-or-cat-classification"
SCALING = "0..1"

INFO = ModelInfo(
    name="dogs-vs-cats",
    summary="The CNN of Kaggle's Dogs-vs-Cats notebook, trained here; 12.9 million parameters.",
    input_shape=(128, 128, 3),
    classes=("cat", "dog"),
    source=f"the toolkit itself; architecture of {NOTEBOOK}",
)
ROBUST = replace(
    INFO,
    name="dogs-vs-cats-robust",
    summary="The same CNN after adversarial training: fewer pictures flip, and more must change.",
)
PUBLISHED = {INFO.name: (INFO, WEIGHTS), ROBUST.name: (ROBUST, ROBUST_WEIGHTS)}


@zoo_model(INFO)
def load() -> Classifier:
    """Load the published model, in float32."""
    return from_weights(WEIGHTS)


@zoo_model(ROBUST)
def load_robust() -> Classifier:
    """Load the adversarially trained model, in float32."""
    return from_weights(ROBUST_WEIGHTS, ROBUST)


def from_weights(path: Path, info: ModelInfo = INFO) -> Classifier:
    """Load the network with weights from a compact file; ModelError if it is missing or damaged."""
    from robustness.model_zoo.dogs_vs_cats import weights_file  # noqa: PLC0415

    if not path.is_file():
        raise ModelError(
            f"The weights {path.name} are not in this installation; install the toolkit again, or "
            f"load {NOTEBOOK} instead."
        )
    model = _built()
    weights_file.load(model, path)
    from robustness.models.classifier import Classifier  # noqa: PLC0415 (imports TensorFlow)

    return Classifier(model, class_names=INFO.classes, scaling=SCALING, name=info.name)


def from_notebook_weights(
    path: Path,
    *,
    trust: bool = False,
    class_names: Sequence[str] | None = None,
    scaling: Any = None,
) -> Classifier:
    """Load the network with weights as the notebook saves them (HDF5, of Keras 2 or 3).

    Parameters
    ----------
    path
        The file with the weights.
    trust
        Whether to load the file although its scan has findings.
    class_names
        By default ("cat", "dog"), as in the notebook.
    scaling
        By default counts are divided by 255, as in the notebook.

    Raises
    ------
    UnsafeModelError, ModelError
        As in `loading.load_weights`.
    """
    from robustness.models import loading  # noqa: PLC0415
    from robustness.models.classifier import Classifier  # noqa: PLC0415

    model = _built()
    loading.load_weights(model, path, trust=trust)
    names = tuple(class_names or INFO.classes)
    return Classifier(model, class_names=names, scaling=scaling or SCALING, file=path)


def _built() -> Any:
    import keras  # noqa: PLC0415 (imports TensorFlow)

    from robustness.model_zoo.dogs_vs_cats.architecture import build  # noqa: PLC0415

    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("float32")
    try:
        return build()
    finally:
        keras.mixed_precision.set_dtype_policy(policy)
