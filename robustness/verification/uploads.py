"""Checks the uploaded files of flips in a lossy format: hashes, the picture that was encoded, distances."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from robustness.errors import RunError
from robustness.pipeline.upload import Upload
from robustness.runs.records import ImageRow
from robustness.runs.store import Run
from robustness.threat.norms import NORMS
from robustness.verification.pictures import Pictures
from robustness.verification.rows import DISTANCE, FILE, Inconsistency, RunContents, fault


def file_of(run: Run, claims: RunContents, row: Mapping[str, Any]) -> bytes | None:
    """Return the uploaded file of a flip; None if it is missing."""
    known = claims.upload_of(row)
    if known is None:
        return None
    try:
        return run.png(str(known["file"]))
    except RunError:
        return None


def judgeable(upload: Upload, data: bytes, picture: np.ndarray | None) -> bool:
    """Whether a file can be judged: it can be decoded, and has the size of the picture that was encoded."""
    if picture is None:
        return False
    try:
        return upload.decode(data, picture.shape[-1]).shape == picture.shape
    except ValueError:
        return False


def uploaded(
    claims: RunContents,
    image: ImageRow,
    row: Mapping[str, Any],
    pictures: Pictures,
    upload: Upload,
    data: bytes | None,
) -> Iterator[Inconsistency]:
    """Yield the faults of a flip's uploaded file.

    Parameters
    ----------
    claims : the content of the run.
    image, row : the image, and the outcome that flips it.
    pictures : the pictures before they were encoded.
    upload : the format of the run.
    data : the bytes of the file; None if it is missing.
    """
    known = claims.upload_of(row)
    if known is None or data is None:
        yield fault(FILE, "The uploaded file of the flip is missing.", image, row)
        return
    name = str(known["file"])
    if hashlib.sha256(data).hexdigest() != Path(name).stem:
        said = "The uploaded file has bytes whose hash is not the one in its name."
        yield fault(FILE, said, image, row, file=name)
        return
    before, picture = pictures.pixels(image.png), pictures.pixels(row["png"])
    try:
        decoded = upload.decode(data, None if picture is None else picture.shape[-1])
    except ValueError as error:
        yield fault(FILE, f"The uploaded file cannot be decoded: {error}.", image, row, file=name)
        return
    if before is None or picture is None or before.shape != decoded.shape:
        said = "The uploaded file cannot be compared: a picture is missing or of another size."
        yield fault(DISTANCE, said, image, row, file=name)
        return
    # Another version of Pillow, or of its libraries, may write another file.
    same_encoder = claims.manifest.environment.get("pillow") == PIL.__version__
    if same_encoder and upload.encode(picture) != data:
        said = f"The picture of the flip, encoded as {upload.text}, is not the uploaded file."
        yield fault(FILE, said, image, row, file=name)
    for column in ("linf", "l2"):
        far = NORMS[column].recount(before, decoded)
        if not math.isclose(far, known[column], rel_tol=1e-9):
            said = (
                f"Measured again, {column} of the uploaded file is {far:.10g}; its row says "
                f"{known[column]:.10g}."
            )
            yield fault(DISTANCE, said, image, row, file=name)
