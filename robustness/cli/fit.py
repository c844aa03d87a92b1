"""`robustness fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustness.errors import SettingError

MODEL, IMAGES, EPSILON = "dogs-vs-cats", "pets", "8"


def fit(
    out: Annotated[Path, typer.Argument(help="The file to write, .npz.")],
    model: Annotated[str, typer.Option("--model", "-m", help="As in `robustness audit`.")] = MODEL,
    images: Annotated[
        str, typer.Option("--images", "-i", help="Labelled pictures to fit on; audit others.")
    ] = IMAGES,
    label_column: Annotated[str | None, typer.Option(help="As in `robustness audit`.")] = None,
    epsilon: Annotated[
        str, typer.Option("--epsilon", "-e", help="The budget in counts.")
    ] = EPSILON,
    norm: Annotated[str, typer.Option(help="linf, l2 or l1; a patch needs none.")] = "linf",
    patch: Annotated[
        str | None,
        typer.Option(
            help="TOP,LEFT,SIDE in pixels: a square that covers, not a change everywhere."
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Class to reach; any other class if not given.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="At most so many pictures, a random sample in balance.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Passes over all pictures.", min=1)] = 50,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
) -> None:
    """Fit one change that flips many pictures, for the attacks `universal` and `patch`.

    \b
    Examples:
      robustness fit change.npz -i pets:64 -e 8
      robustness audit -i pets:32 -a universal:file=change.npz -e 8
      robustness fit patch.npz -i pets:64 --patch 4,4,24
      robustness audit -i pets:32 -a patch:file=patch.npz --norm l0 -e 576
    """
    from robustness.cli.audit import _model, _pictures
    from robustness.cli.terminal import stderr, stdout, wake_backend
    from robustness.configuration import epsilons
    from robustness.files import disk_errors
    from robustness.threat import norms

    place = None if patch is None else _numbers(patch)
    disk_errors.expect_place(out)
    ladder = epsilons.parse_epsilons(epsilon)
    norms.parse(norm).expect_within(ladder)
    options = {"model": model, "images": images, "classes": None, "held_out": False}
    options |= {"label_column": label_column}
    options |= {"scaling": None, "trust_model": False}
    source, _ = _pictures(options)
    wake_backend()
    from robustness.attacks import universal_fit
    from robustness.auditing.inputs import labelled_arrays
    from robustness.model_zoo import load
    from robustness.threat import goals
    from robustness.threat.threat import Threat

    loaded = _model(load, options, None)
    classifier, pixels, labels = labelled_arrays(loaded, source, limit=limit, seed=seed)
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
        f"{out}: flips {100 * fitted.flipped:.1f} % of the {fitted.images} pictures it was fitted on. Audit "
        f"others: robustness audit -a {kind}:file={out}",
        markup=False,
        soft_wrap=True,
    )


def _numbers(text: str) -> tuple[int, int, int]:
    try:
        top, left, side = (int(part) for part in text.split(","))
    except ValueError:
        raise SettingError(
            f"--patch {text!r} is not a place; expected TOP,LEFT,SIDE in pixels, such as 4,4,24."
        ) from None
    return top, left, side
