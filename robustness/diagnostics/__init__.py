"""The audit doubts itself: D01 to D28, each a rule with evidence; `docs/diagnostics.md` explains them.

`rows` reads them off what the run has stored, `looks` asks the model a few questions more, `trials` run
attacks again and are for `thorough` audits. `running.diagnose` is the way in.
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
}
"""What holds where a diagnostic is ok."""


@dataclass(frozen=True)
class Diagnosis:
    """What one diagnostic found, in a plain sentence, with the numbers behind it."""

    id: str
    status: str
    sentence: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What holds where it is ok."""
        return TITLES[self.id]

    def to_dict(self) -> dict[str, Any]:
        """For `run.json`."""
        rest = {"status": self.status, "sentence": self.sentence, "evidence": plain(self.evidence)}
        return {"id": self.id, "title": self.title, **rest}


def plain(value: Any) -> Any:
    """JSON-able: numbers of NumPy as Python's, what is not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def ok(number: str, sentence: str, **evidence: Any) -> Diagnosis:
    """All is well."""
    return Diagnosis(number, OK, sentence, evidence)


def warn(number: str, sentence: str, **evidence: Any) -> Diagnosis:
    """The reader must know."""
    return Diagnosis(number, WARN, sentence, evidence)


def fail(number: str, sentence: str, **evidence: Any) -> Diagnosis:
    """The numbers cannot be relied on."""
    return Diagnosis(number, FAIL, sentence, evidence)


def skipped(number: str, why: str) -> Diagnosis:
    """It could not be, or was not, asked."""
    return Diagnosis(number, SKIPPED, why)


def few(count: int) -> float:
    """How many images more or less are chance: one, or one in a hundred."""
    return max(1.0, 0.01 * count)
