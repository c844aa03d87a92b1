"""Lists the values that options choose from, and the defaults of an audit.

The command line, audit.toml and Python have the same defaults. Imports no framework.
"""

from __future__ import annotations

from robustness import plugins
from robustness.files.remote import BYTES

ATTACK = "standard"
"""The default attack: an ensemble that is adapted to the norm, the goal, the number of classes, and whether
the model has gradients. It takes no parameters."""
EPSILON = 4
"""The default budget, in counts."""
MODEL, IMAGES, REPORT = "dogs-vs-cats", "pets", "html"
"""The defaults of the command line."""

NORMS = ("linf", "l2", "l1", "l0", "free")
"""The built-in norms."""
REGISTERED_NORMS: set[str] = set()
"""The norms that `robustness.threat.norms.register` added in this process."""

HEADS = ("softmax", "logits", "sigmoid", "sigmoid-logit", "sigmoid-argmax", "multi-label")
"""What the outputs of a model can be; see `robustness.models.heads`."""
SCALINGS = ("0..255", "0..1", "-1..1", "caffe", "torch")
"""The scalings that have a name."""
FORMER = {
    "class_names": "classes",
    "declared_accuracy": "accuracy",
    "run": "out",
    "trust": "trust_model",
}
"""The names that options of Python and audit.toml had before, and their names now."""

PRECISIONS = ("float32", "bfloat16")
EVIDENCE = ("all", "flips", "none")
"""Which PNG files are kept in the run folder; a number of images is allowed as well."""
MAX_SLOTS, MAX_SEED = 1 << 20, (1 << 63) - 1
"""The largest batch size and seed that `run.json` holds."""


def further_norms() -> set[str]:
    """Return the names of the norms registered in this process or by an installed package."""
    return REGISTERED_NORMS | set(plugins.names(plugins.NORMS))


CACHE_BYTES = BYTES
"""The most bytes of copies of remote files on this machine, as in `robustness.files.remote`."""

FULL, MODEL_SIZE = "full", "model"
PLACES = (FULL, MODEL_SIZE)
"""What is attacked: the picture at its own size, or the image that the model takes."""
UPLOAD = "png"
MAX_SIDE = 2048
