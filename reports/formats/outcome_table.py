"""The outcomes as a table for spreadsheets and data frames, without formulas."""

from __future__ import annotations

import io

import pandas as pd

from robustness.errors import SettingError
from robustness.reports import wording
from robustness.reports.summary.budgets import budgets
from robustness.reports.summary.tables import ReadableRun, complete, distance_columns
from robustness.threat.norms import described

_WHOLE = ("step", "restart", "forward", "backward")
_STARTS = tuple("=+-@＝＋－＠|%")


def table(run: ReadableRun) -> pd.DataFrame:
    """Return a row for each image x attack x epsilon: class names, distances in counts, shares 0..1.

    `reached` says whether the attack could use all of `effective_epsilon`; if not, "robust" means only
    that the image did not flip. A run that attacks pictures at their own size has their `height` and `width`,
    and the uploaded files of flips in a lossy format with the distances of the decoded files. Text is made
    visible, and `defused` so that it is no formula.
    """
    manifest = run.manifest
    names = manifest.class_names
    images = complete(run.images(), "images")[["key", "name", "label", "clean_class"]]
    images = images.rename(columns={"name": "file"})
    norm = manifest.config.norm or "linf"
    outcomes = complete(run.outcomes(), "outcomes", norm)
    epsilons = sorted(float(e) for e in outcomes["epsilon"].dropna().unique())
    limits = budgets(manifest, norm, epsilons)
    short = {(name, budget.epsilon) for budget in limits for name in budget.short}
    frame = outcomes.merge(images, left_on="image", right_on="key", how="left")

    def named(column: pd.Series) -> pd.Series:
        return column.map(lambda n: None if pd.isna(n) else wording.class_name(names, n)).astype(
            object
        )

    columns = {
        "image": frame["image"],
        "name": frame["file"],
        "label": named(frame["label"]),
        "clean_class": named(frame["clean_class"]),
        "attack": frame["attack"],
        "epsilon": frame["epsilon"],
        "effective_epsilon": frame["epsilon"].map(described(norm).effective),
        "reached": pd.Series(
            [pair not in short for pair in zip(frame["attack"], frame["epsilon"], strict=True)],
            index=frame.index,
            dtype=bool,
        ),
        "status": frame["status"],
        "adversarial_class": named(frame["adversarial_class"]),
        "confidence_before": frame["confidence_before"],
        "confidence_after": frame["confidence_after"],
        **{name: frame[name].astype("Int64") for name in ("l0", "components")},
        **{
            name: frame[name] for name in distance_columns(norm) if name not in ("l0", "components")
        },
        **{name: frame[name].astype("Int64") for name in _WHOLE},
        "float_flip": frame["float_flip"].fillna(0).astype(bool),
        "reason": frame["reason"],
        "png": frame["png"],
    }
    columns |= _deployed(run, frame)
    text = (
        "image",
        "name",
        "label",
        "clean_class",
        "attack",
        "status",
        "adversarial_class",
        "reason",
        "png",
        "upload",
    )
    for name in (name for name in text if name in columns):
        columns[name] = columns[name].map(lambda t: None if pd.isna(t) else defused(str(t)))
    return pd.DataFrame(columns)


def _deployed(run: ReadableRun, frame: pd.DataFrame) -> dict[str, pd.Series]:
    """The columns of pictures that are attacked at their own size; none in other runs."""
    sizes = run.sizes()
    if not sizes:
        return {}
    uploads = complete(run.uploads(), "uploads")
    keys = ["image", "attack", "epsilon"]
    names = {"file": "upload", "linf": "upload_linf", "l2": "upload_l2"}
    files = frame[keys].merge(uploads.rename(columns=names), on=keys, how="left")
    height, width = (
        frame["image"]
        .map(lambda key, side=side: sizes.get(key, (None, None))[side])
        .astype("Int64")
        for side in (0, 1)
    )
    lossy = {} if uploads.empty else {name: files[name] for name in names.values()}
    return {"height": height, "width": width, **lossy}


def defused(text: str) -> str:
    """Make text visible, and put an apostrophe before what a spreadsheet would compute."""
    shown = wording.visible(text)
    return f"'{shown}" if shown.lstrip().startswith(_STARTS) else shown


def to_csv(run: ReadableRun) -> bytes:
    """Return `table` as CSV in UTF-8, without a byte-order mark, which most readers take for text."""
    return table(run).to_csv(index=False, lineterminator="\r\n").encode("utf-8")


def to_parquet(run: ReadableRun) -> bytes:
    """Return `table` as Parquet; SettingError if pyarrow is not installed."""
    buffer = io.BytesIO()
    try:
        table(run).to_parquet(buffer, index=False, engine="pyarrow")
    except ImportError:
        raise SettingError(
            "Parquet needs pyarrow, which is not installed. Install it with "
            "`pip install 'robustness-toolkit[parquet]'`, or use --kind csv."
        ) from None
    return buffer.getvalue()
