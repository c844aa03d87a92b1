"""Makes the rows of images: what the model says of unchanged pictures, and the outcomes of attacks.

Pictures are saved by a function that is passed in, so that rows can be made in another process than the one
that stores them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from robustness.engine import votes
from robustness.engine.jobs import Example
from robustness.engine.judge import UploadedFile
from robustness.engine.outcomes import EpsilonOutcome
from robustness.engine.votes import Vote
from robustness.errors import PipelineError, RunError
from robustness.images import Picture
from robustness.images.png import to_png
from robustness.models.classifier import Classifier
from robustness.models.fixed_size_calls import naming
from robustness.pipeline.deployment import Deployment
from robustness.runs.plan import Plan
from robustness.runs.records import (
    FAILED,
    FLIPPED,
    ROBUST,
    DistanceRow,
    GradientRow,
    ImageRow,
    OutcomeRow,
    Row,
    SizeRow,
    UploadRow,
)
from robustness.threat.norms import has_own_column

SavePicture = Callable[[bytes, str], str]
"""Saves the bytes of a picture with this suffix, and returns its path within the run folder."""


@dataclass(frozen=True)
class RowMaker:
    """Makes the rows of a run.

    Parameters
    ----------
    plan : the settings of the run.
    classifier : the user's model, which judges every file.
    save : saves a picture.
    """

    plan: Plan
    classifier: Classifier
    save: SavePicture

    def clean(
        self, numbered: Sequence[tuple[int, Picture]], known: Mapping[str, np.ndarray]
    ) -> list[Row]:
        """Return the rows of unchanged pictures: the images, and their sizes if they are not resized.

        Parameters
        ----------
        numbered : positions and pictures.
        known : probabilities (classes,) that were computed already, by the image's key.
        """
        pixels = {p.entry.key: p.pixels for _, p in numbered if p.pixels is not None}
        names = {p.entry.key: p.entry.name for _, p in numbered}
        predictions = self._predictions(pixels, known, names)
        rows = [self._image_row(n, picture) for n, picture in numbered]
        rows = [predictions[r.key](r) if r.key in predictions else r for r in rows]
        return [*rows, *self._size_rows(pixels)]

    def _size_rows(self, pixels: Mapping[str, np.ndarray]) -> list[SizeRow]:
        """The sizes of pictures that are attacked at their own size."""
        if self.classifier.deployment is None:
            return []
        sizes = {key: picture.shape[:2] for key, picture in pixels.items()}
        return [SizeRow(image=key, height=h, width=w) for key, (h, w) in sizes.items()]

    def _predictions(
        self,
        pixels: Mapping[str, np.ndarray],
        known: Mapping[str, np.ndarray],
        names: Mapping[str, str],
    ) -> dict[str, Callable[[ImageRow], ImageRow]]:
        """Return a function for each image that puts the model's prediction into its row."""
        refused = self._refused(pixels)
        pixels = {key: picture for key, picture in pixels.items() if key not in refused}
        if self.plan.draws > 1 and pixels:
            classes, pictures = self.classifier.class_names, list(pixels.values())
            counted = votes.clean(self.classifier.probabilities, pictures, len(classes))
            return refused | {
                k: partial(_voted, vote=v, names=classes)
                for k, v in zip(pixels, counted, strict=True)
            }
        new = [key for key in pixels if key not in known]
        with naming([names[key] for key in new]):
            fresh = self.classifier.probabilities([pixels[k] for k in new]) if new else ()
        probabilities = {**known, **dict(zip(new, fresh, strict=True))}
        return refused | {
            key: partial(_predicted, probabilities=probabilities[key]) for key in pixels
        }

    def _refused(
        self, pixels: Mapping[str, np.ndarray]
    ) -> dict[str, Callable[[ImageRow], ImageRow]]:
        """Return a function for each picture that the input pipeline cannot process: it states the reason."""
        deployment = self.classifier.deployment
        reasons: dict[str, Callable[[ImageRow], ImageRow]] = {}
        if not isinstance(deployment, Deployment):
            return reasons
        for key, picture in pixels.items():
            try:
                deployment.image(picture)
            except PipelineError as error:
                reasons[key] = partial(replace, reason=str(error))
        return reasons

    def _image_row(self, position: int, picture: Picture) -> ImageRow:
        entry = picture.entry
        return ImageRow(
            key=entry.key,
            position=position,
            name=entry.name,
            label=entry.label,
            digest=picture.digest,
            note=picture.note,
            reason=picture.reason,
            png=self._everything(picture),
        )

    def _everything(self, picture: Picture) -> str | None:
        """Save the picture if the run keeps every picture; return the file's name or None."""
        if not self.plan.keeps_all or picture.pixels is None:
            return None
        return self.save(to_png(picture.pixels), ".png")

    def outcomes(
        self, row: ImageRow, example: Example, label: str, outcomes: list[EpsilonOutcome]
    ) -> list[Row]:
        """Save the pictures of one image, and return its rows."""
        written: list[Row] = []
        kept = self.plan.keeps(row.position)
        if kept and row.png is None:
            # Also of a robust image, which the report shows.
            original = self.save(to_png(example.cropped(example.pixels)), ".png")
            written.append(replace(row, png=original))
        for outcome in outcomes:
            stored = OutcomeRow(
                image=row.key,
                attack=label,
                epsilon=outcome.epsilon,
                status=status_of(outcome),
                confidence_before=row.confidence,
                step=outcome.step,
                restart=outcome.restart,
                forward=outcome.forward,
                backward=outcome.backward,
                float_flip=int(outcome.flips_in_float_only),
                reason=outcome.reason,
            )
            if outcome.flip:
                stored = replace(
                    stored,
                    adversarial_class=outcome.flip.adversarial_class,
                    confidence_after=outcome.flip.confidence,
                    **outcome.flip.distances.columns,
                    png=self.save(outcome.flip.png, ".png") if kept else None,
                )
            written.append(stored)
            written += self._upload_rows(stored, outcome)
            norm = self.plan.threat.norm
            if outcome.flip and has_own_column(norm):
                written.append(
                    DistanceRow(
                        image=row.key,
                        attack=label,
                        epsilon=outcome.epsilon,
                        norm=norm.column,
                        distance=outcome.flip.distances.own,
                    )
                )
            if outcome.watched and stored.status == ROBUST:
                written.append(
                    GradientRow(
                        image=row.key,
                        attack=label,
                        epsilon=outcome.epsilon,
                        watched=outcome.watched,
                        blind=outcome.blind,
                    )
                )
        return written

    def _upload_rows(self, stored: OutcomeRow, outcome: EpsilonOutcome) -> list[UploadRow]:
        """Save the uploaded file of a flip in a lossy format, if its pictures are kept."""
        deployment = self.classifier.deployment
        if outcome.flip is None or outcome.flip.upload is None or stored.png is None:
            return []
        suffix = deployment.upload.suffix if isinstance(deployment, Deployment) else ""
        upload = outcome.flip.upload
        return [_upload_row(stored, upload, self.save(upload.data, suffix))]


def _upload_row(stored: OutcomeRow, upload: UploadedFile, file: str) -> UploadRow:
    """The row of the uploaded file of a flip."""
    return UploadRow(
        image=stored.image,
        attack=stored.attack,
        epsilon=stored.epsilon,
        file=file,
        linf=upload.distances.linf,
        l2=upload.distances.l2,
    )


def _predicted(row: ImageRow, probabilities: np.ndarray) -> ImageRow:
    """Return `row` with the model's prediction, or with a reason if the output is not finite."""
    if not np.isfinite(probabilities).all():
        return replace(row, reason="the model's output is not finite")
    predicted = int(probabilities.argmax())
    return replace(row, clean_class=predicted, confidence=float(probabilities[predicted]))


def _voted(row: ImageRow, vote: Vote, names: Sequence[str]) -> ImageRow:
    """Return `row` with the class of most draws, and a reason if its majority is not significant."""
    if not vote.counts.any():
        return _predicted(row, np.full(len(names), np.nan))
    first = vote.first
    share = f"{names[first]} in {vote.counts[first]} of {vote.draws} draws"
    reason = "" if vote.steady else f"the model's class for it changes from draw to draw ({share})"
    sure = vote.confidence(first)
    return replace(row, clean_class=first, confidence=sure, reason=reason)


def status_of(outcome: EpsilonOutcome) -> str:
    """Return the status of an outcome."""
    return FAILED if outcome.reason else FLIPPED if outcome.flip else ROBUST


def expect_size(row: ImageRow, pixels: np.ndarray, size: tuple[int, int] | None) -> None:
    """RunError if a picture that is attacked at its own size has another `size` in the run."""
    if size is not None and size != pixels.shape[:2]:
        (height, width), (there, across) = size, pixels.shape[:2]
        raise RunError(
            f"The picture of {row.name} has {there} × {across} pixels, but {height} × {width} in the run's "
            "table of sizes; expected the same. The run is damaged or was altered: restore it from a copy, "
            "or audit again."
        )


def spared_rows(
    row: ImageRow, label: str, epsilons: Sequence[float], status: str
) -> list[OutcomeRow]:
    """Return the rows of an image on which an attack did not run, with `status` at each epsilon."""
    return [
        OutcomeRow(
            image=row.key,
            attack=label,
            epsilon=epsilon,
            status=status,
            confidence_before=row.confidence,
            reason=row.reason,
        )
        for epsilon in epsilons
    ]
