"""Options of an audit about the deployed input pipeline: preprocessing, upload, size of the pictures."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from robustness.configuration import choices
from robustness.configuration.option import Option

MOST_SIDE = 1 << 14

PipelineOption = Annotated[
    str | None,
    Option(
        "The code with which the deployment makes images of uploaded pictures: keras.load_img, "
        "keras.image_dataset_from_directory, tf.image.resize, keras.layers.Resizing, keras_hub, torchvision, "
        "opencv or pillow, with its arguments: keras.load_img:interpolation=bilinear, "
        "torchvision:resize=256,crop=224. docs/pipeline.md lists them.",
        table="pipeline", key="name", example='"keras.load_img"',
    ),
]  # fmt: skip

PreprocessOption = Annotated[
    str | None,
    Option(
        "Your own preprocessing as module:function or file.py:function: from the file's bytes, a PIL image "
        "or a uint8 array to the model's input. It is run, and it judges every flip. In audit.toml it needs "
        "--preprocess or --trust-model on the command line.",
        table="pipeline", example='"my_code.py:prepare"', path=True,
    ),
]  # fmt: skip

AtOption = Annotated[
    str | None,
    Option(
        "What is attacked: full, the picture at its own size, or model, the image that the model takes. full "
        "if a pipeline, a preprocessing or an upload is given, otherwise model.",
        table="pipeline", choices=choices.PLACES, example='"full"',
    ),
]  # fmt: skip

UploadOption = Annotated[
    str,
    Option(
        "The file that is uploaded, which is judged: png, jpeg:90, jpeg:90,subsampling=4:4:4, webp:90. "
        "Attacks look through JPEG at this quality; at several with jpeg:90,seen=85-95, at none with "
        "seen=none.",
        table="pipeline", example='"jpeg:90"',
    ),
]  # fmt: skip

MaxSideOption = Annotated[
    int,
    Field(ge=32, le=MOST_SIDE),
    Option(
        "The longest side of an attacked picture in pixels; larger pictures are reduced first, and their "
        "note says so.",
        table="pipeline", example="2048",
    ),
]  # fmt: skip
