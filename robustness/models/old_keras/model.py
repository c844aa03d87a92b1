"""A Keras 3 model whose answers and gradients come from a process that runs tf_keras."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import keras
import numpy as np

from robustness.backend.types import Tensor
from robustness.errors import ModelError
from robustness.models.old_keras.protocol import BrokenMessageError, receive, send
from robustness.models.scan.limited_process import MAX_SECONDS, limited_environment

EXTRA = "pip install 'robustness-toolkit[old-keras]'"


def installed() -> bool:
    """Return whether tf_keras is installed and TensorFlow is the backend."""
    return importlib.util.find_spec("tf_keras") is not None and _on_tensorflow()


def _on_tensorflow() -> bool:
    return str(keras.backend.backend()) == "tensorflow"


class Worker:
    """The process that has loaded a file, and the pipes to it.

    Attributes
    ----------
    about : what the model is, as `worker.described` says.
    """

    def __init__(self, path: Path, trust: bool) -> None:
        command = [
            sys.executable,
            "-P",
            "-m",
            "robustness.models.old_keras.worker",
            str(path.resolve()),
        ]
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*command, *(["--trust"] if trust else [])],
            env=limited_environment() | {"TF_USE_LEGACY_KERAS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._lock = threading.Lock()
        # A file must not load forever.
        limit = threading.Timer(MAX_SECONDS, self._process.kill)
        limit.start()
        self._close = weakref.finalize(self, _end, self._process)
        try:
            self.about, _ = self._received(path.name)
        finally:
            limit.cancel()
        if error := self.about.get("error"):
            self._close()
            raise ModelError(f"tf_keras could not load {path.name!r} either: {error}.")

    def ask(self, what: str, *arrays: np.ndarray) -> np.ndarray:
        """Return the array that the process answers with, float32.

        Parameters
        ----------
        what : `raw`, `outputs` or `pull`.
        arrays : float32; images (n, height, width, channels), and weights (n, units) for `pull`.

        Raises
        ------
        ModelError
            The process has ended or reports an error.
        """
        with self._lock:
            try:
                send(self._process.stdin, {"do": what}, *(np.asarray(a, "float32") for a in arrays))  # type: ignore[arg-type]
            except OSError as error:
                raise ModelError(
                    "The process that runs the model with tf_keras has ended."
                ) from error
            head, answers = self._received("the model")
        if "error" in head or len(answers) != 1:
            raise ModelError(f"The model fails in tf_keras: {head.get('error', 'no answer')}.")
        rows = len(arrays[0])
        wanted = arrays[0].shape if what == "pull" else (rows, *self.about["units"])
        if answers[0].shape != tuple(wanted):
            raise ModelError(
                f"The model answers with {answers[0].shape} in tf_keras; expected {tuple(wanted)}."
            )
        return answers[0]

    def _received(self, name: str) -> tuple[dict[str, Any], list[np.ndarray]]:
        try:
            return receive(self._process.stdout)  # type: ignore[arg-type]
        except BrokenMessageError as error:
            code = self._process.poll()
            raise ModelError(
                f"The process that runs {name} with tf_keras has ended (exit code {code}); it may have taken "
                f"more than the memory or the {MAX_SECONDS:g} s it was allowed."
            ) from error


def _end(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()
    process.terminate()
    process.wait()


class Remote(keras.layers.Layer):
    """The model in the other process, as a layer: images to the input of its last activation.

    Parameters
    ----------
    worker : the process.
    """

    def __init__(self, worker: Worker, **settings: Any) -> None:
        super().__init__(trainable=False, **settings)
        self._worker = worker

    def build(self, _: tuple[int | None, ...]) -> None:
        """Hold the hash of the weights, which stands for them: they are in the other process."""
        values = np.frombuffer(bytes.fromhex(self._worker.about["sha256"]), np.uint8)
        self.fingerprint = self.add_weight(
            shape=values.shape,
            dtype="uint8",
            trainable=False,
            name="fingerprint",
            initializer="zeros",
        )
        self.fingerprint.assign(values)

    def compute_output_spec(self, images: keras.KerasTensor) -> keras.KerasTensor:
        """Return the shape of the result."""
        return keras.KerasTensor((images.shape[0], *self._worker.about["units"]), "float32")

    def call(self, images: Tensor) -> Tensor:
        """Return (n, units), differentiable once."""
        import tensorflow as tf  # noqa: PLC0415 - only where TensorFlow is the backend

        worker, units = self._worker, self._worker.about["units"]

        @tf.custom_gradient
        def evaluated(points: Tensor) -> Any:
            values = tf.numpy_function(lambda x: worker.ask("raw", x), [points], tf.float32)
            values.set_shape((points.shape[0], *units))

            def pull(weights: Tensor) -> Tensor:
                slopes = tf.numpy_function(
                    lambda x, w: worker.ask("pull", x, w), [points, weights], tf.float32
                )
                slopes.set_shape(points.shape)
                return slopes

            return values, pull

        return evaluated(tf.cast(images, tf.float32))


class OldKerasModel(keras.Model):
    """A Functional model around `Remote`."""

    def count_params(self) -> int:
        """Return the number of weights of the model in the other process."""
        return int(self.layers[1]._worker.about["parameters"])

    @property
    def reading(self) -> str:
        """How the file was read, a sentence without a full stop."""
        version = self.layers[1]._worker.about["version"]
        return (
            f"tf_keras {version} has loaded the file and answers in a process of its own, since Keras 3 "
            "cannot load it"
        )


def opened(path: str | Path, trust: bool = False) -> OldKerasModel:
    """Load a file that was scanned with tf_keras in a process with limits on memory.

    Parameters
    ----------
    path : a `.keras` or HDF5 file of Keras 2, with a whole model of one input and one output.
    trust : let the file run code.

    Raises
    ------
    ModelError
        tf_keras is missing or cannot load the file, or the backend is not TensorFlow.
    """
    if not installed():
        backend = "" if _on_tensorflow() else " and TensorFlow as the backend of Keras"
        raise ModelError(f"tf_keras is needed to load {Path(path).name!r}: {EXTRA}{backend}.")
    worker = Worker(Path(path), trust)
    about = worker.about
    images = keras.Input(about["shape"])
    outputs = Remote(worker, name="tf_keras")(images)
    if about["activation"]:
        outputs = keras.layers.Activation(about["activation"], name=about["activation"])(outputs)
    return OldKerasModel(images, outputs)
