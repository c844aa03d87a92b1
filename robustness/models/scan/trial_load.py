"""Loads a model file and calls the model once, within limits on memory and time.

Run as ``python -m robustness.models.scan.trial_load FILE`` by `limited_process.run_limited`, to which it
returns {"error": ""} on success; else a sentence as "error", and as "missing" the names that Keras could not
find.
"""

from __future__ import annotations

import re
import sys

from robustness.errors import ModelError
from robustness.models.scan import limited_process

ANY_SIZE = 224
"""Height and width of the images of a model that takes any size."""
_SIGNS = re.compile(
    r"out of memory|not enough memory|\boom\b|bad_alloc|resource_?exhausted|allocat(e|ing|ion)",
    re.IGNORECASE,
)
"""What frameworks say for lack of memory; in "RandomZoom" or "room" there is none."""


def main(path: str) -> None:
    """Load the model at `path`, call it on `SMALL_BATCH` black images, and return the result."""
    import keras  # noqa: PLC0415 - limits are set after libraries are loaded
    import numpy as np  # noqa: PLC0415

    from robustness.models import loading  # noqa: PLC0415
    from robustness.models.fixed_size_calls import SMALL_BATCH  # noqa: PLC0415
    from robustness.models.ports import input_ports  # noqa: PLC0415

    keras.ops.matmul(np.ones((64, 64), "float32"), np.ones((64, 64), "float32"))
    limited_process.limit_memory()
    try:
        model = loading.opened(path)
        ports = input_ports(model)
        zeros = [
            np.zeros((SMALL_BATCH, *(n or ANY_SIZE for n in port.sizes)), "float32")
            for port in ports
        ]
        structure = getattr(model, "input", None)
        given = zeros[0] if structure is None else keras.tree.pack_sequence_as(structure, zeros)
        model(given, training=False)
    except MemoryError:
        sys.exit(limited_process.OUT_OF_MEMORY)
    except ModelError as error:
        _refused(str(error), error.__cause__)
    except Exception as error:  # layers may raise any exception
        _refused(f"Its first call fails ({type(error).__name__}: {str(error)[:300]}).", error)
    else:
        limited_process.tell({"error": ""})


def _refused(said: str, cause: BaseException | None) -> None:
    text = f"{type(cause).__name__} {cause} {said}"
    if isinstance(cause, MemoryError) or _SIGNS.search(text):
        sys.exit(limited_process.OUT_OF_MEMORY)
    unknown = "Could not locate" in str(cause) or "Unknown" in str(cause)
    names = re.findall(r"'([^']{1,100})'", str(cause)) if unknown else []
    limited_process.tell({"error": said, "missing": sorted(set(names))[:1000]})


if __name__ == "__main__":
    main(sys.argv[1])
