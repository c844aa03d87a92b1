"""The outcomes as a table for spreadsheets and data frames, with nothing in it that could run."""

from __future__ import annotations

import io

import pandas as pd

from robustness.configuration import epsilons as units
from robustness.errors import SettingError
from robustness.reports import wording
from robustness.reports.summary.budgets import budgets
from robustness.reports.summary.tables import ReadableRun, complete

_WHOLE = ("l0", "components", "step", "restart", "forward", "backward")
_STARTS = tuple("=+-@＝＋－＠|%")


def table(run: ReadableRun) -> pd.DataFrame:
    """A row for each image x attack x epsilon: classes by name, distances in counts, shares 0..1.

    `reached` says whether the attack could use all of `effective_epsilon`; where it could not, "robust" only
    says that the image did not flip.

    Text is made visible, and defused where a spreadsheet would take it for a formula.
    """
    manifest = run.manifest
    names = manifest.class_names
    images = complete(run.images(), "images")[["key", "name", "label", "clean_class"]]
    images = images.rename(columns={"name": "file"})
    outcomes = complete(run.outcomes(), "outcomes")
    norm = manifest.config.norm or "linf"
    epsilons = sorted(float(e) for e in outcomes["epsilon"].dropna().unique())
    limits = budgets(manifest, norm, epsilons)
    short = {(name, one.epsilon) for one in limits for name in one.short}
    frame = outcomes.merge(images, left_on="image", right_on="key", how="left")

    def named(column: pd.Series) -> pd.Series:
        return column.map(lambda n: None if pd.isna(n) else wording.class_name(names, n)).astype(
            object
        )

    columns = {
        "image": frame["image"],
        "name": frame["file"],
        "label": named(frame["label"]),
        "predicted": named(frame["clean_class"]),
        "attack": frame["attack"],
        "epsilon": frame["epsilon"],
        "effective_epsilon": frame["epsilon"].map(lambda e: units.effective(norm, e)),
        "reached": pd.Series(
            [pair not in short for pair in zip(frame["attack"], frame["epsilon"], strict=True)],
            index=frame.index,
            dtype=bool,
        ),
        "status": frame["status"],
        "adversarial": named(frame["adversarial_class"]),
        "confidence_before": frame["confidence_before"],
        "confidence_after": frame["confidence_after"],
        **{name: frame[name].astype("Int64") for name in ("l0", "components")},
        **{name: frame[name] for name in ("l1", "l2", "linf")},
        **{name: frame[name].astype("Int64") for name in _WHOLE[2:]},
        "float_flip": frame["float_flip"].fillna(0).astype(bool),
        "reason": frame["reason"],
        "png": frame["png"],
    }
    text = (
        "image",
        "name",
        "label",
        "predicted",
        "attack",
        "status",
        "adversarial",
        "reason",
        "png",
    )
    for name in text:
        columns[name] = columns[name].map(lambda t: None if pd.isna(t) else defused(str(t)))
    return pd.DataFrame(columns)


def defused(text: str) -> str:
    """`text` made visible, with an apostrophe before it where a spreadsheet would compute it."""
    shown = wording.visible(text)
    return f"'{shown}" if shown.lstrip().startswith(_STARTS) else shown


def to_csv(run: ReadableRun) -> bytes:
    """`table` as UTF-8 with a mark of the byte order, which spreadsheets ask for."""
    text = table(run).to_csv(index=False, lineterminator="\r\n")
    return b"\xef\xbb\xbf" + text.encode("utf-8")


def to_parquet(run: ReadableRun) -> bytes:
    """`table` as Parquet. SettingError without pyarrow."""
    buffer = io.BytesIO()
    try:
        table(run).to_parquet(buffer, index=False, engine="pyarrow")
    except ImportError:
        raise SettingError(
            "Parquet needs pyarrow, which is not installed. Install it with "
            "`pip install 'robustness-toolkit[parquet]'`, or take --kind csv."
        ) from None
    return buffer.getvalue()
