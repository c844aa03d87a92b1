"""Checks whether the attacks of a run can reach every epsilon (D27)."""

from __future__ import annotations

from collections.abc import Mapping

from robustness.diagnostics import Diagnosis, fail, ok, skipped, warn
from robustness.diagnostics.stored_run import StoredRun
from robustness.runs.smallest_epsilon import limited

_MOST = 3


def reachable(record: StoredRun) -> Diagnosis:
    """Make D27: the steps, step sizes and queries of the attacks suffice to use all of each epsilon."""
    budgets = record.manifest.budgets
    if not budgets:
        return skipped("D27", "The run does not say how far its attacks can go.")
    missed = [b for b in budgets if not b.reached]
    short = [b for b in budgets if b.short]
    evidence = {
        "unreached": [b.epsilon for b in missed],
        "farthest": {f"{b.epsilon:.12g}": dict(b.short) for b in short},
    }
    if missed:
        every = ", ".join(f"{b.epsilon:.12g}" for b in missed)
        return fail(
            "D27",
            f"No attack of the run can use all of epsilon {every}: {_listed(missed[-1].short)}. Images "
            "that stand there were never put to that test, so no robust accuracy is stated.",
            **evidence,
        )
    if short:
        last = short[-1]
        return warn(
            "D27",
            f"Some attacks cannot use all of epsilon {last.epsilon:.12g}, others can: "
            f"{_listed(last.short)}.",
            **evidence,
        )
    return ok("D27", "Every attack can use all of every epsilon.", **evidence)


def _listed(short: Mapping[str, float]) -> str:
    """What limits each attack, for a few attacks."""
    said = [limited(label, far) for label, far in list(short.items())[:_MOST]]
    more = len(short) - _MOST
    return "; ".join([*said, f"and {more} more"] if more > 0 else said)
