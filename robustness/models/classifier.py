"""Wraps a Keras model with preprocessing and class names: images in counts to logits and probabilities."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from textwrap import shorten
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from robustness import backend
from robustness.errors import ModelError, SettingError
from robustness.models import head_decision, loading
from robustness.models.adapter import InputAdapter, adapt
from robustness.models.deep_graphs import deep_graphs
from robustness.models.fixed_size_calls import SMALL_BATCH, FixedSizeCalls
from robustness.models.float_input import Twin, float_twin, takes_whole, without_slope
from robustness.models.head_kinds import AmbiguousHeadError
from robustness.models.heads import Head, find_head
from robustness.models.identity import answers, identity, probes, undisturbed
from robustness.models.image_converter import converter_scaling
from robustness.models.inner_scaling import InnerScaling, inner_scaling
from robustness.models.known_makers import by_maker
from robustness.models.label_sets import LabelSets
from robustness.models.layers import entry_dtype, is_whole
from robustness.models.precision import computing_in, parse_precision
from robustness.models.scaling_choice import Labelled, ScalingChoice, choose_scaling, undecided
from robustness.models.scalings import SCALINGS, Scaling, candidates, parse_scaling

Pictures = np.ndarray | Sequence[np.ndarray]
"""Images (n, height, width, channels) in counts; pictures (height, width, channels) of several sizes."""


class Deployment(Protocol):
    """What happens to an uploaded picture until it is the model's image; see `robustness.pipeline`."""

    def images(self, pictures: Pictures) -> np.ndarray:
        """Return the model's images (n, height, width, channels) of pictures, each uint8."""

    def images_of_files(self, files: Sequence[bytes]) -> np.ndarray:
        """Return the model's images of encoded pictures."""


class Classifier:
    """A Keras model as a function from images in counts 0..255 to logits and probabilities.

    Attacks use `logits` (differentiable). The judge uses `probabilities`: the user's own model, last layer
    included, in inference mode. The model is never changed. A model whose weights change needs a new
    Classifier.
    """

    @deep_graphs()
    def __init__(  # noqa: PLR0913 - what a user may state about a model
        self,
        model: Any,
        *,
        class_names: Sequence[str] | None = None,
        scaling: str | Path | Scaling | Mapping[str, Any] | None = None,
        head: str | None = None,
        label_sets: LabelSets | None = None,
        adapter: InputAdapter | None = None,
        name: str | None = None,
        file: str | Path | None = None,
        architecture: str | None = None,
    ) -> None:
        """Wrap a built Keras 3 model.

        Parameters
        ----------
        model : takes images (n, height, width, channels), or what `adapter` makes of them.
        class_names : in the order of the outputs; default: the attribute `class_names` of the model, else
            "class 0", ... .
        scaling : one of `scalings.SCALINGS`, numbers as `scalings.parse_scaling` reads them, or a Scaling.
            May be omitted only if the first layers of the model scale counts themselves (`inner_scaling`) or
            its input holds whole numbers; otherwise see `Classifier.decide`.
        head : what the outputs are if the model does not show it, one of `heads.HEADS`.
        label_sets : the classes of a `multi-label` head, whose labels are `class_names`; without them it has
            a logit per label.
        adapter : how images enter the model and which output is meant, if its shapes do not show it.
        name : default: the name of the file without suffix, else that of the model.
        file : the file that the model was loaded from.
        architecture : what the model was built from if the file gave its weights only.

        Raises
        ------
        ModelError
            The model does not take one image per row, does not return one row of classes per image, or is
            ambiguous (AmbiguousHeadError if labelled images may decide, see `Classifier.decide`); the class
            names do not match its outputs; or its scaling is unknown.
        SettingError
            The scaling or the head is not known, or the scaling does not fit the input of the model.
        """
        self._adapted = adapt(model, adapter)
        self.model, self.input_shape = self._adapted.model, self._adapted.shape
        self.picture_shape: tuple[int | None, int | None, int] = self.input_shape
        self.name = name or (Path(file).stem if file else str(self._adapted.original.name))
        self.file = Path(file) if file else None
        self.head_reason = ""
        self.scaling_reason = "It was given."
        self.scaling = self._chosen(scaling)
        self._said: dict[str, Any] = {
            "class_names": class_names,
            "head": head,
            "label_sets": label_sets,
            "name": name,
            "file": file,
            "architecture": architecture,
        }
        self.architecture = architecture
        self.whole_inputs = is_whole(entry_dtype(self.model))
        self.cuts_fractions = takes_whole(self.model)
        probe = self._probe()
        self._twin = float_twin(self.model, probe)
        self.head: Head = find_head(self.model, probe, head, twin=self._twin.model)
        original = self._adapted.original
        self.class_names = _names(original, class_names, self.head.classes)
        self.named = class_names is not None or getattr(original, "class_names", None) is not None
        if label_sets is not None:
            self.head, self.class_names = self.head.with_sets(label_sets), label_sets.names
        self.precision = "float32"
        self._calls = FixedSizeCalls()
        self.deployment: Deployment | None = None
        self._predict = backend.compile(self._forward)
        self._see = backend.compile(self.logits)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        trust_model: bool = False,
        imports: Sequence[str] = (),
        **settings: Any,
    ) -> Classifier:
        """Load a model file and wrap its model. The file is scanned first (`loading.scan`).

        Parameters
        ----------
        path : a local file with a whole model; with weights only if `architecture` is among the settings.
        trust_model : load the file despite findings, and let it run code.
        imports : files or modules that define own layers of the model (`user_code`); needs `trust_model`.
        settings : as for `Classifier` (class_names, scaling, ...).

        Raises
        ------
        UnsafeModelError
            The scan has findings and `trust_model` is False.
        ModelError
            The file cannot be loaded, or its model cannot be wrapped.
        """
        model = loading.load_model(path, trust_model, settings.get("architecture"), imports)
        return cls(model, file=path, **settings)

    @classmethod
    def decide(
        cls,
        model: Any,
        images: np.ndarray,
        labels: np.ndarray | None,
        *,
        more: Iterable[Labelled] = (),
        command: str = "",
        **settings: Any,
    ) -> Classifier:
        """Wrap a model whose scaling and head are given, found in the model, stated beside its file, or
        decided by labelled images.

        Parameters
        ----------
        model : a built Keras 3 model, or an AdaptedModel.
        images : uint8 (n, height, width, channels).
        labels : true class indices (n,), or None.
        more : further labelled images, part by part, which are taken if the first do not decide.
        command : the command that was given, for the message.
        settings : as for `Classifier`.

        Raises
        ------
        ModelError
            No scaling is clearly the best; the message states the accuracies and what to do. Or the head is
            open, and the answers do not agree with the labels.
        """
        adapted = adapt(model, settings.pop("adapter", None))
        stated = settings.get("scaling") is not None
        inner = inner_scaling(adapted.model)
        beside = None
        if not stated and not inner.counts:
            beside = converter_scaling(settings.get("file"), adapted.shape[-1])
        if beside is not None:
            settings, stated = {**settings, "scaling": beside[0]}, True
        if not stated and not inner.counts and settings.get("head") == "multi-label":
            raise ModelError(
                "It is not known which numbers the model expects, and labels of images do not decide it "
                f"for a multi-label model. Expected a scaling: {', '.join(SCALINGS)} (--scaling)."
            )
        if not stated:
            settings = {**settings, "scaling": "0..255"}
        decided = ""
        try:
            draft = cls(adapted, **settings)
        except AmbiguousHeadError as error:
            if labels is None or len(images) == 0:
                raise
            decided = error.kind
            draft = cls(adapted, **{**settings, "head": decided})
        if beside is not None:
            draft.scaling_reason = beside[1]
        if not stated:
            draft = draft._with_inner_or_chosen(inner, images, labels, more, command)
        if decided and labels is not None:
            logits = draft.logits_of(images)
            names = settings.get("class_names") or ()
            draft.head_reason = head_decision.reason(decided, logits, labels, names)
        return draft

    def _with_inner_or_chosen(
        self,
        inner: InnerScaling,
        images: np.ndarray,
        labels: np.ndarray | None,
        more: Iterable[Labelled],
        command: str,
    ) -> Classifier:
        """This classifier with the scaling found in the model, or else chosen by labelled images."""
        if inner.counts:
            self.scaling_reason = inner.sentence
            return self
        choice = self.choose_scaling(images, labels, more=more)
        if choice.scaling is None:
            choice = by_maker(self.model, choice)
        if choice.scaling is None:
            raise undecided(choice, command, inner.sentence)
        chosen = self if choice.scaling == self.scaling else self.with_scaling(choice.scaling)
        chosen.scaling_reason = choice.sentence
        return chosen

    def with_scaling(self, scaling: str | Scaling) -> Classifier:
        """Return a classifier of the same model with another scaling."""
        return Classifier(self._adapted, scaling=scaling, **self._said)

    def with_label_sets(self, sets: LabelSets) -> Classifier:
        """Return a classifier of the same multi-label model whose classes are sets of labels."""
        settings = {**self._said, "label_sets": sets}
        other = Classifier(self._adapted, scaling=self.scaling, **settings)
        other.scaling_reason = self.scaling_reason
        return other

    def with_class_names(self, names: Sequence[str]) -> Classifier:
        """Return this classifier with other class names, in the order of the outputs."""
        other = copy.copy(self)
        other.class_names = _names(self._adapted.original, names, self.head.classes)
        other.named, other._said = True, {**self._said, "class_names": names}
        return other

    def choose_scaling(
        self,
        images: np.ndarray,
        labels: np.ndarray | None,
        own: np.ndarray | None = None,
        *,
        more: Iterable[Labelled] = (),
    ) -> ScalingChoice:
        """Try each candidate scaling on `images` and choose one.

        Parameters
        ----------
        images : uint8 (n, height, width, channels).
        labels : true class indices (n,), or None.
        own : probabilities (n, classes) under the scaling of this classifier, if they are known already.
        more : further labelled images, part by part, which are taken if the first do not decide.
        """

        def predict(scaling: Scaling, some: np.ndarray) -> np.ndarray:
            if own is not None and some is images and scaling == self.scaling:
                return own
            return self.outputs_under(scaling, some)

        # Only scalings that fit the channels of the model are tried.
        channels = self.input_shape[-1] + self._adapted.opaque
        return choose_scaling(
            predict,
            images,
            labels,
            candidates(channels, entry_dtype(self.model)),
            len(self.class_names),
            more=more,
            names=self.class_names,
        )

    def outputs_under(self, scaling: Scaling, images: np.ndarray) -> np.ndarray:
        """Return probabilities (n, classes), float32, for images in counts under another scaling."""
        return self._in_calls(images, lambda x: self._predict(scaling.apply(self._with_alpha(x))))

    @deep_graphs()
    def in_precision(self, name: str) -> Classifier:
        """Return this classifier with `logits` from a copy of the model that computes in `name`.

        The copy shares the variables of the model, which is not changed; `probabilities` remain its own.

        Parameters
        ----------
        name : one of `precision.PRECISIONS`.

        Raises
        ------
        SettingError
            The precision is not known.
        ModelError
            The layers cannot compute in that precision.
        """
        if parse_precision(name) == self.precision:
            return self
        other = copy.copy(self)
        try:
            twin = computing_in(self._twin.model, name)
            other._twin = Twin(twin, self._twin.reason)
            other.head = self.head.computed_by(twin, self._probe())
            other.precision, other._see = name, backend.compile(other.logits)
            other._calls = FixedSizeCalls()
            other.logits(np.zeros((1, *self.input_shape), "float32"))
        except Exception as error:
            # The message of the layer itself comes last.
            reason = shorten(str(error).rpartition("Error encountered:")[2], 200)
            raise ModelError(
                f"{self.name} does not compute in {name}: {reason} Expected layers that take either; attack "
                "it in float32."
            ) from error
        return other

    def logits(self, images: Any) -> Any:
        """Return logits (n, classes), float32, for images (n, height, width, channels) in counts.

        Differentiable; usable inside a compiled function. For a model that takes whole numbers the float twin
        (`float_input`) computes them; without a twin they are those of the nearest whole counts, without a
        gradient.
        """
        if self._twin.reason and self.cuts_fractions:
            images = ops.round(images)
        return self.head.logits(self.as_input(images))

    def probabilities(self, images: Pictures) -> np.ndarray:
        """Return probabilities (n, classes), float32, of the user's own model.

        Parameters
        ----------
        images : (n, height, width, channels) in counts; of a deployed model, pictures (height, width,
            channels) uint8 of any sizes.
        """
        if self.deployment is not None:
            images = self.deployment.images(images)
        return self._in_calls(images, lambda x: self._predict(self.as_input(x)))

    def probabilities_of_files(self, files: Sequence[bytes]) -> np.ndarray:
        """Return probabilities (n, classes) for encoded pictures, decoded as they are deployed.

        Raises
        ------
        ModelError
            The classifier has no deployment, so pictures of other sizes than its input are not defined.
        """
        if self.deployment is None:
            raise ModelError(f"{self.name} has no input pipeline; expected decoded images.")
        images = self.deployment.images_of_files(files)
        return self._in_calls(images, lambda x: self._predict(self.as_input(x)))

    def may_draw(self, images: np.ndarray) -> bool:
        """Return whether outputs for `images` may differ between calls, judged by the model's operations."""
        some = np.resize(images, (SMALL_BATCH, *self.input_shape))
        return backend.draws_numbers(self._predict, self.as_input(some))

    def logits_of(self, images: Pictures) -> np.ndarray:
        """Return `logits` for any number of images, computed in batches by a compiled function."""
        if self.deployment is not None:
            images = self.deployment.images(images)
        return self._in_calls(images, self._see)

    def deployed(self, deployment: Deployment) -> Classifier:
        """Return this classifier behind an input pipeline; it takes pictures (height, width, channels) of any
        size.

        `logits` and `input_shape` remain those of the model's own images.
        """
        other = copy.copy(self)
        other.deployment, other.picture_shape = deployment, (None, None, self.input_shape[-1])
        return other

    def at_model_size(self) -> Classifier:
        """Return this classifier without its input pipeline."""
        other = copy.copy(self)
        other.deployment, other.picture_shape = None, self.input_shape
        return other

    @property
    def without_gradient(self) -> str:
        """Why the logits have no gradient at the images, a sentence; "" if the layers do not show it."""
        if self._twin.reason:
            dtype = entry_dtype(self.model)
            what = (
                f"takes whole numbers ({dtype})"
                if self.whole_inputs
                else "cuts fractions off within"
            )
            return f"The model {what}, and it has no twin of floats to follow instead: {self._twin.reason}."
        found = without_slope(self._twin.model)
        return f"The cause: {found}, which has no slope." if found else ""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights: shape, dtype and bytes in the model's order.

        Names are excluded: Keras renames layers when a model is built twice in one process.
        """
        sha = hashlib.sha256()
        for weight in self._adapted.original.weights:
            values = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
            sha.update(f"{values.shape} {values.dtype}\n".encode())
            sha.update(values.tobytes())
        return sha.hexdigest()

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What determines the model's outputs besides its weights; see `robustness.models.identity`.

        The model is run on a few pictures; the state of its random numbers is restored afterwards.
        """
        pictures = probes(self.input_shape)
        known = identity(self._adapted.original)
        with undisturbed(self._adapted.original) as chancy:
            plain = self.at_model_size()
            first = plain.probabilities(pictures)
            # Keras' own layers without random numbers give equal outputs: one run suffices.
            again = plain.probabilities(pictures) if chancy or known["code"] else first
        return {**known, "answers": answers(first, again)}

    def card(self) -> dict[str, Any]:
        """Return a description of the model, its file and its preprocessing as JSON values."""
        report = loading.scan(self.file) if self.file else None
        return {
            "name": self.name,
            "file": report.name if report else None,
            "file_sha256": report.sha256 if report else None,
            "format": report.format if report else "in memory",
            "source_keras": report.keras_version if report else None,
            "architecture": self.architecture,
            "findings": list(report.findings) if report else [],
            "notes": list(report.notes) if report else [],
            "weights_sha256": self.digest,
            "identity": self.identity,
            "parameters": int(self._adapted.original.count_params()),
            "input_shape": list(self.input_shape),
            "adapter": self._adapted.card(),
            "scaling": {**self.scaling.card(), "chosen": self.scaling_reason},
            "head": self.head.kind,
            "head_sentence": f"{self.head.sentence} {self.head_reason}".strip(),
            "label_names": list(self.head.sets.labels) if self.head.sets else [],
            "label_sets": list(self.head.sets.sets) if self.head.sets else [],
            "logits_rebuilt": self.head.rebuilt,
            "class_names": list(self.class_names),
            "keras": keras.__version__,
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed of the model's inputs and outputs, sentences without a full stop."""
        reason = (self.head_reason.rstrip("."),) if self.head_reason else ()
        read = getattr(self._adapted.original, "reading", "")
        return (*([read] if read else []), *self._adapted.sentences, *reason)

    @property
    def channels_first(self) -> bool:
        """Whether the user's model takes (channels, height, width); `logits` never does."""
        return self._adapted.channels_first

    @property
    def head_stated(self) -> bool:
        """Whether the user says what the outputs are."""
        return self._said["head"] is not None

    def as_input(self, images: Any) -> Any:
        """Return images in counts as the model takes them."""
        return self.scaling.apply(self._with_alpha(images))

    def _with_alpha(self, images: Any) -> Any:
        """Images with a fourth channel of 255 counts, where the model takes one that they lack."""
        if not self._adapted.opaque:
            return images
        counts = ops.cast(images, "float32")
        return ops.concatenate([counts, ops.full_like(counts[..., :1], 255.0)], axis=-1)

    def _forward(self, inputs: Any) -> Any:
        return self.head.probabilities(inputs)

    def _in_calls(self, images: Pictures, see: Callable[[np.ndarray], Any]) -> np.ndarray:
        images = np.asarray(images) if len(images) else np.zeros((0, *self.input_shape), "float32")
        if images.shape[1:] != self.input_shape:
            raise ModelError(
                f"Images of shape {images.shape} were given; {self.name} takes "
                f"(n, {', '.join(map(str, self.input_shape))})."
            )
        return self._calls(images, see, len(self.class_names))

    def _chosen(self, scaling: str | Path | Scaling | Mapping[str, Any] | None) -> Scaling:
        if scaling is None:
            inner = inner_scaling(self.model)
            if not inner.counts:
                what = "Nothing at its beginning scales counts, and no labelled images were given."
                raise undecided(ScalingChoice(None, {}, what), found=inner.sentence)
            self.scaling_reason = inner.sentence
            chosen = SCALINGS["0..255"]
        else:
            chosen = parse_scaling(scaling)
        channels = self.input_shape[-1] + self._adapted.opaque
        if chosen.per_channel and channels != 3:
            raise SettingError(
                f"Scaling {chosen.name} is for three channels; the model takes {channels}."
            )
        dtype = entry_dtype(self.model)
        if not chosen.fits(dtype):
            wanted = ", ".join(candidates(channels, dtype)) or "another input type"
            raise SettingError(
                f"The model takes whole numbers ({dtype}), which do not hold what scaling {chosen.name} "
                f"makes of counts 0..255. Expected {wanted}; or build the model behind a float32 input."
            )
        return chosen

    def _probe(self) -> Any:
        """Four inputs that an image classifier should distinguish: black, white and two of noise."""
        noise = np.random.default_rng(0).uniform(0, 255, (2, *self.input_shape))
        if takes_whole(self.model):
            noise = np.floor(noise)
        flat = np.stack([np.zeros(self.input_shape), np.full(self.input_shape, 255.0)])
        return self.as_input(np.concatenate([flat, noise]).astype("float32"))


def input_shape(model: Any) -> tuple[int, int, int]:
    """Return the shape (height, width, channels) of the images that a Keras model takes.

    Raises
    ------
    ModelError
        Its inputs are no images, or it is open how images enter it (`adapter.adapt`).
    """
    return adapt(model).shape


def _names(model: Any, given: Sequence[str] | None, classes: int) -> tuple[str, ...]:
    found = given if given is not None else getattr(model, "class_names", None)
    if found is None:
        return tuple(f"class {i}" for i in range(classes))
    names = tuple(str(name) for name in found)
    if len(names) != classes:
        some = ", ".join(names[:5]) + ", ..." * (len(names) > 5)
        raise ModelError(
            f"{len(names)} class names were given ({some}); the model tells {classes} classes "
            "apart. Name each once, in the order of the outputs."
        )
    if len(set(names)) < classes:
        raise ModelError(f"Class names repeat: {', '.join(names)}. Each class needs its own.")
    return names
