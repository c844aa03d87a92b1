"""Checks whether the numbers of an audit are reliable: D01 to D29, each a rule with evidence.

`stored_outcomes` uses the stored outcomes of a run, `model_queries` runs the model on a few pictures, and
`reruns` runs attacks again, for `thorough` audits. `diagnose.diagnose` runs them all. See
`docs/diagnostics.md`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "warn", "fail", "skipped"]
OK, WARN, FAIL, SKIPPED = "ok", "warn", "fail", "skipped"

TITLES = {
    "P01": "Pictures in counts",
    "P02": "Scaling of the inputs",
    "P03": "Order of the classes",
    "P04": "Saturated outputs",
    "P05": "Finite outputs",
    "P06": "Logits belong to the model",
    "P07": "Images do not mix",
    "P08": "The pipeline of the deployment",
    "P09": "One model in every mode",
    "D01": "The model answers alike twice",
    "D02": "Logits to attack",
    "D03": "A gradient from output to picture",
    "D04": "A gradient that is alive",
    "D05": "A steady loss",
    "D06": "No flip was overlooked",
    "D07": "The attack had converged",
    "D08": "Without a budget everything flips",
    "D09": "Twice the steps flip no more",
    "D10": "One more restart flips no more",
    "D11": "A larger budget never hurts",
    "D12": "More steps never hurt",
    "D13": "Many steps beat a single one",
    "D14": "White box beats black box",
    "D15": "White box beats transfer",
    "D16": "Attacks beat random noise",
    "D17": "Half the range leaves chance",
    "D18": "Every flip is within its budget",
    "D19": "Flips survive being saved",
    "D20": "No change, no flip",
    "D21": "The clean accuracy is plausible",
    "D22": "The attack breaks what is known to break",
    "D23": "Enough images",
    "D24": "Attacks of several kinds",
    "D25": "The query budget sufficed",
    "D26": "Attacks had gradients to follow",
    "D27": "Attacks can use the whole budget",
    "D28": "The answers depend on the picture",
    "D29": "The resize reads the whole picture",
}
"""What each diagnostic states if it is ok."""


@dataclass(frozen=True)
class Diagnosis:
    """The result of one diagnostic.

    Attributes
    ----------
    id : key of `TITLES`, such as "D01".
    status : "ok", "warn", "fail" or "skipped".
    sentence : the result in words.
    evidence : the numbers that it is based on.
    """

    id: str
    status: str
    sentence: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What the diagnostic states if it is ok."""
        return TITLES[self.id]

    def to_dict(self) -> dict[str, Any]:
        """Return the diagnosis as JSON values for `run.json`."""
        rest = {"status": self.status, "sentence": self.sentence, "evidence": plain(self.evidence)}
        return {"id": self.id, "title": self.title, **rest}


def plain(value: Any) -> Any:
    """Convert to JSON values: NumPy numbers to Python numbers, numbers that are not finite to None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def ok(number: str, sentence: str, **evidence: Any) -> Diagnosis:
    """Return a diagnosis without a problem."""
    return Diagnosis(number, OK, sentence, evidence)


def warn(number: str, sentence: str, **evidence: Any) -> Diagnosis:
    """Return a diagnosis to know before relying on the numbers."""
    return Diagnosis(number, WARN, sentence, evidence)


def fail(number: str, sentence: str, **evidence: Any) -> Diagnosis:
    """Return a diagnosis that makes the numbers unreliable."""
    return Diagnosis(number, FAIL, sentence, evidence)


def skipped(number: str, why: str) -> Diagnosis:
    """Return a diagnosis that was not made, with the reason."""
    return Diagnosis(number, SKIPPED, why)


def few(count: int) -> float:
    """Return the number of images up to which a difference counts as chance: 1, or 1 % of `count` if more."""
    return max(1.0, 0.01 * count)
