"""Makes pictures of the images that a deployed model receives, for the report."""

from __future__ import annotations

import numpy as np

from robustness.errors import PipelineError
from robustness.models.scalings import Scaling
from robustness.pipeline.agreement import counts_of
from robustness.pipeline.deployment import Deployment
from robustness.pipeline.user_function import UserFunction


def view(deployment: Deployment, picture: np.ndarray, scaling: Scaling | None = None) -> np.ndarray:
    """Return the model's image of an uploaded picture, rounded to whole counts.

    Parameters
    ----------
    deployment : the input pipeline.
    picture : uint8 (height, width, channels), before it is encoded.
    scaling : from counts to the model's inputs. A user's own function gives inputs, which are converted back
        by it; a named convention gives counts.

    Returns
    -------
    uint8, of the shape of the model's images.

    Raises
    ------
    PipelineError
        The pipeline refuses the picture, or is a function whose scaling is not given.
    """
    image = deployment.image(picture)
    if isinstance(deployment.preprocessing, UserFunction):
        if scaling is None:
            raise PipelineError(
                f"The function {deployment.preprocessing.text} gives inputs of the model, and their scaling "
                "was not stated; expected it to convert them to counts."
            )
        image = counts_of(scaling, image)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)
