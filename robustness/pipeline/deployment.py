"""What happens to an uploaded picture until it is the model's image, for the judge and for attacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from robustness.backend.types import Tensor
from robustness.errors import PipelineError
from robustness.pipeline.geometry import Geometry
from robustness.pipeline.preprocessing import ImageShape, LinearConvention, Preprocessing
from robustness.pipeline.upload import PNG, Upload

if TYPE_CHECKING:
    from robustness.models.classifier import Classifier


@dataclass(frozen=True)
class Deployment:
    """An upload format and the preprocessing of a deployed model.

    Attributes
    ----------
    preprocessing : from a picture, or its file, to the model's image; what the judge uses.
    shape : the model's images, (height, width, channels).
    upload : the format of the uploaded file.
    queried : what attacks without gradients evaluate in place of the classifier that has this deployment:
        one behind a function, where `preprocessing` is only the convention nearest to it.
    """

    preprocessing: Preprocessing
    shape: ImageShape
    upload: Upload = PNG
    queried: Classifier | None = None

    @property
    def convention(self) -> LinearConvention:
        """The preprocessing as a named convention, through which attacks see the model.

        Raises
        ------
        PipelineError
            It is a function, which has no gradient.
        """
        if not hasattr(self.preprocessing, "geometry"):
            raise PipelineError(
                f"{self.preprocessing.text} is a function without a gradient; expected a named convention."
            )
        return cast("LinearConvention", self.preprocessing)

    def image(self, picture: np.ndarray) -> np.ndarray:
        """Return the model's image of a picture (height, width, channels) that is uploaded.

        Other types than uint8 are rounded to whole counts.

        Raises
        ------
        PipelineError
            The preprocessing cannot process the picture, or gives an image of another shape.
        """
        if picture.dtype != np.uint8:
            picture = np.clip(np.round(picture), 0, 255).astype(np.uint8)
        if self.upload.lossless:
            return self._expected(self.preprocessing.image(picture, self.shape))
        return self.image_of_file(self.upload.encode(picture))

    def image_of_file(self, data: bytes) -> np.ndarray:
        """Return the model's image of an uploaded file; see `image`."""
        return self._expected(self.preprocessing.image_of_file(data, self.shape))

    def images(self, pictures: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """Return the model's images (n, height, width, channels) of pictures."""
        return self._stacked([self.image(picture) for picture in pictures])

    def images_of_files(self, files: Sequence[bytes]) -> np.ndarray:
        """Return the model's images (n, height, width, channels) of uploaded files."""
        return self._stacked([self.image_of_file(data) for data in files])

    def geometry(self, size: tuple[int, int]) -> Geometry:
        """Return the linear part for pictures of `size` (height, width), for attacks."""
        return self.convention.geometry(size, self.shape)

    def differentiable(
        self,
        rows: Tensor,
        columns: Tensor,
        sizes: Tensor,
        keys: Tensor,
        step: Tensor,
        rows_first: Tensor | None = None,
    ) -> Callable[[Tensor], Tensor]:
        """Return a differentiable function from points on a canvas to the model's images.

        Parameters
        ----------
        rows, columns : matrices of each picture (`twin.images_of`).
        sizes : (n, 2) int32: height and width of each picture.
        keys, step : (n, 2) and (n,) int32, for the random qualities of an upload.
        rows_first : (n,) bool, see `twin.images_of`.
        """
        # keras.ops is needed by attacks only.
        from robustness.pipeline.twin import after_upload, images_of  # noqa: PLC0415

        def see(points: Tensor) -> Tensor:
            received = after_upload(points, self.upload, sizes, keys, step)
            return images_of(received, rows, columns, self.convention, rows_first)

        return see

    def _expected(self, image: np.ndarray) -> np.ndarray:
        if image.shape != self.shape:
            raise PipelineError(
                f"{self.preprocessing.text} gives images of shape {image.shape}; the model takes "
                f"{self.shape}. State a pipeline that ends with this size."
            )
        return image

    def _stacked(self, images: list[np.ndarray]) -> np.ndarray:
        return np.stack(images) if images else np.zeros((0, *self.shape), np.float32)
