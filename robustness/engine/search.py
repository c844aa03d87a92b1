"""One attack over a stream of images: slots, a ladder of epsilons, verification.

An attack that seeks *any* point inside the budget climbs: the queue holds (image, epsilon, restart), an
image that survives every restart at one epsilon is queued for the next, and when it flips, all larger
epsilons are settled. An attack that seeks the *closest* point runs once a restart, and every epsilon
follows from the distance of the nearest file that flips. Each try starts afresh, so the verdicts are
those of a plain loop over one image at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from robustness.contract.attack import Attack
from robustness.engine.attempts import Attempt, AttemptPool, ImageProgress
from robustness.engine.compiled_batch import CompiledBatch
from robustness.engine.fixed_epsilon import FixedEpsilonProgram
from robustness.engine.jobs import Example
from robustness.engine.judge import Judge
from robustness.engine.minimum_distance import MinimumDistanceProgram
from robustness.engine.outcomes import EpsilonOutcome
from robustness.models.classifier import Classifier
from robustness.optimization.iterate import iterate
from robustness.threat.threat import Threat


def budget(attack: Attack, threat: Threat, epsilon: float) -> float:
    """The epsilon a row runs with whose outcome is at `epsilon`."""
    return threat.epsilons[-1] if attack.seeks == "closest" else epsilon


def search(  # noqa: PLR0913 - the one entry to the loop
    classifier: Classifier,
    attack: Attack,
    threat: Threat,
    subjects: Iterator[Example],
    settle: Callable[[Example, list[EpsilonOutcome]], None],
    *,
    slots: int = 32,
    seed: int = 0,
    all_steps: bool = False,
    each: Callable[[], None] | None = None,
    rows: CompiledBatch | None = None,
    surrogate: Classifier | None = None,
    draws: int = 1,
) -> None:
    """Run `attack` on every subject; `settle` hears of each image once, with a rung an epsilon.

    Parameters
    ----------
    subjects: read lazily, a few ahead of the slots.
    slots: rows that advance together. Verdicts do not depend on it.
    seed: of the random numbers, which depend on it, the image's key, the attack and the restart.
    all_steps: a row leaves when its steps are spent, not at its first flip; the flip that counts is
        that of the last point, or else the first one found.
    each: called after every step; of a small network's long attack, after several.
    rows: compiled already, for the same classifier, attack, threat, slots and seed.
    surrogate: what the attack looks at, in place of `classifier`, which then only judges: transfer. A
        row goes before the judge when it flips the surrogate, and with its last point.
    draws: more than 1 where the model answers at random, so that each verdict is a vote (`judge.Judge`).

    Raises
    ------
    SettingError: the attack has no version for the threat's norm.
    """
    rows = rows or CompiledBatch(surrogate or classifier, attack, threat, slots=slots, seed=seed)
    slots = rows.slots
    bench = AttemptPool(rows, Judge(classifier, threat, draws), threat.epsilons, attack.steps)
    program: FixedEpsilonProgram | MinimumDistanceProgram
    if attack.seeks == "closest":
        program = MinimumDistanceProgram(bench, rows, attack, threat, settle)
    else:
        program = FixedEpsilonProgram(bench, rows, attack, threat, settle, all_steps=all_steps)

    def take() -> Attempt | None:
        if program.queue:
            return program.queue.popleft()
        subject = next(subjects, None)
        return None if subject is None else Attempt(ImageProgress(subject), program.first, 0)

    iterate(
        program,
        take,
        slots=slots,
        each=None if each is None else lambda _: each(),
        narrow=bench.narrow,
    )
