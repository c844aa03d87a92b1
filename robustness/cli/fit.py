"""The command `robustness fit`: fits one change, or one patch, that flips many images."""

from __future__ import annotations

import inspect
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from robustness.cli import options as cli_options
from robustness.cli.options import LabelColumn, Limit, Model, Target
from robustness.configuration import choices
from robustness.configuration.audit_config import audit_options
from robustness.configuration.recorded import checked
from robustness.errors import SettingError
from robustness.text import percent, plural

EPSILON = "8"
READING = (
    *("classes", "scaling", "head", "output", "input_size", "image_input", "constants"),
    *("architecture", "imports", "trust_model"),
)
"""The options of an audit that say how a model is loaded and read."""
MULTI_LABEL = "multi-label"


def fit(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(help="The .npz file to write.")],
    model: Model = choices.MODEL,
    images: Annotated[
        str,
        typer.Option(
            "--images", "-i", help="Labelled images to fit on; audit the change on others."
        ),
    ] = choices.IMAGES,
    label_column: LabelColumn = None,
    epsilon: Annotated[
        str, typer.Option("--epsilon", "-e", help="The budget in counts of 255.")
    ] = EPSILON,
    norm: Annotated[str, typer.Option(help="linf, l2 or l1; a patch has none.")] = "linf",
    patch: Annotated[
        str | None,
        typer.Option(
            help="TOP,LEFT,SIDE in pixels: fit a square that replaces pixels, not a change of all pixels."
        ),
    ] = None,
    target: Target = None,
    limit: Limit = None,
    steps: Annotated[int, typer.Option(help="The number of passes over all images.", min=1)] = 50,
    seed: Annotated[int, typer.Option(help="The seed of the random sample of images.")] = 0,
    **arguments: object,
) -> None:
    """Fit one change that flips many images, for the attacks `universal` and `patch`.

    \b
    Examples:
      robustness fit change.npz -i pets:64 -e 8
      robustness audit -i pets:32 -a universal:file=change.npz -e 8
      robustness fit patch.npz -i pets:64 --patch 4,4,24
      robustness audit -i pets:32 -a patch:file=patch.npz --norm l0 -e 576
    """
    from robustness.cli.inputs import open_images
    from robustness.cli.terminal import stderr, stdout, wake_backend
    from robustness.configuration import epsilons
    from robustness.files import disk_errors
    from robustness.threat import norms

    place = None if patch is None else _numbers(patch)
    disk_errors.expect_place(out)
    ladder = epsilons.parse_epsilons(epsilon)
    norms.parse(norm).expect_within(ladder)
    reading = cli_options.typed_options(context, arguments, READING)
    config = checked({"model": model, "images": images, "label_column": label_column, **reading})
    if config.head == MULTI_LABEL:
        raise SettingError(
            "--head multi-label came with `robustness fit`, which fits a change to images of one class each; "
            "expected another head. Attack the model image by image: robustness audit."
        )
    source = open_images(config)
    wake_backend()
    from robustness.attacks import universal_fit
    from robustness.auditing.inputs import labelled_arrays
    from robustness.auditing.named_model import load_named
    from robustness.models.adapter import InputAdapter
    from robustness.threat import goals
    from robustness.threat.threat import Threat

    loaded, config = load_named(model, config)
    classifier, pixels, labels = labelled_arrays(
        loaded,
        source,
        limit=limit,
        seed=seed,
        class_names=config.classes,
        scaling=config.scaling,
        head=config.head,
        adapter=InputAdapter.of(config.given()),
        trust=config.trust_model,
        architecture=config.architecture,
        imports=config.imports,
        command=shlex.join(["robustness", *sys.argv[1:]]),
    )
    threat = Threat(ladder, norms.parse(norm), goals.parse(target, classifier.class_names))
    threat.expect_possible(classifier.input_shape)
    console = stderr()
    fitted = universal_fit.fit(
        classifier,
        pixels,
        labels,
        threat,
        place=None if place is None else universal_fit.PatchRegion(*place),
        steps=steps,
        each=lambda step, loss: console.print(f"step {step}: loss {loss:.4g}", end="\r"),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    fitted.save(out)
    kind = "universal" if place is None else "patch"
    stdout().print(
        f"{out}: flips {percent(fitted.flipped)} of the {plural(fitted.images, 'image')} it was fitted "
        "on. Audit "
        f"other images: robustness audit -a {kind}:file={out}",
        markup=False,
        soft_wrap=True,
    )


def _signature() -> inspect.Signature:
    """The parameters of `fit`, with the options in `READING` in place of `arguments`."""
    own = list(inspect.signature(fit, eval_str=True).parameters.values())[:-1]
    fields = audit_options()
    return inspect.Signature([*own, *(cli_options.parameter(fields[name]) for name in READING)])


fit.__signature__ = _signature()  # type: ignore[attr-defined]


def _numbers(text: str) -> tuple[int, int, int]:
    try:
        top, left, side = (int(part) for part in text.split(","))
    except ValueError:
        raise SettingError(
            f"--patch {text!r} is not a square; expected TOP,LEFT,SIDE in pixels, such as 4,4,24."
        ) from None
    return top, left, side
