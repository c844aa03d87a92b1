"""Runs one attack on a stream of images, and judges its candidates.

An attack that seeks *any* point inside the budget runs at one epsilon after another, from the smallest
(`fixed_epsilon`). An attack that seeks the *closest* point runs once per restart, and its outcome at every
epsilon follows from the distance of the nearest file that flips (`minimum_distance`). Each attempt starts
afresh, so the outcomes are those of a plain loop over one image at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any

from robustness.contract.attack import Attack
from robustness.engine.attempts import Attempt, AttemptPool, ImageProgress, Result
from robustness.engine.batch_size import rows_on_canvas
from robustness.engine.compiled_batch import CompiledBatch
from robustness.engine.fixed_epsilon import FixedEpsilonProgram
from robustness.engine.jobs import Example
from robustness.engine.judge import Judge
from robustness.engine.minimum_distance import MinimumDistanceProgram
from robustness.engine.model_input import by_canvas
from robustness.models.classifier import Classifier
from robustness.optimization.iterate import rounds
from robustness.threat.threat import Threat


def starting_epsilon(attack: Attack, threat: Threat, epsilon: float) -> float:
    """Return the epsilon of the row from which the outcome at `epsilon` follows."""
    return threat.epsilons[-1] if attack.seeks == "closest" else epsilon


def search(
    batch: CompiledBatch,
    examples: Iterable[Example],
    *,
    judged_by: Classifier | None = None,
    draws: int = 1,
    all_steps: bool = False,
    stopped: Callable[[], bool] | None = None,
) -> Generator[Result]:
    """Attack every example, and yield each as soon as all its outcomes are known.

    Parameters
    ----------
    batch
        The compiled attack: its model, attack, threat, seed and batch size. Outcomes do not depend on the
        batch size.
    examples
        Read lazily, a few ahead of the batch.
    judged_by
        The model that a file must flip, if that is not the attacked one (transfer from a surrogate). A row is
        judged when it flips the attacked model, and at its last point.
    draws
        1; more if the model's outputs are random: each verdict is then a vote (`Judge`).
    all_steps
        Whether each row continues until its steps are spent, not until its first flip; the flip that counts
        is that of the last point, or else the first. Attacks that seek the closest point always do this.
    stopped
        Called after each round; once it returns True, the search ends without the images that still run.

    Yields
    ------
    The example and its outcomes, one per epsilon from the smallest on. The order depends on the batch.

    Raises
    ------
    AttackError
        The attack uses more than its declared knowledge.
    GradientError
        The attack needs a gradient and the model has none.

    Notes
    -----
    An image that was not yielded has no outcome: an interrupted search loses only such images, and a new
    search of these reaches the same outcomes.
    """
    attack, threat = batch.attack, batch.threat
    judge = Judge(judged_by or batch.classifier, threat, draws)
    pool = AttemptPool(batch, judge, threat.epsilons, attack.steps)
    program: FixedEpsilonProgram | MinimumDistanceProgram
    if attack.seeks == "closest":
        program = MinimumDistanceProgram(pool, batch, attack, threat)
    else:
        program = FixedEpsilonProgram(pool, batch, attack, threat, all_steps=all_steps)
    remaining = iter(examples)

    def take() -> Attempt | None:
        if pool.queue:
            return pool.queue.popleft()
        example = next(remaining, None)
        return None if example is None else Attempt(ImageProgress(example), program.first, 0)

    for _ in rounds(program, take, slots=batch.batch_size, narrow=pool.shrink):
        while pool.results:
            yield pool.results.popleft()
        if stopped is not None and stopped():
            return


def run_attack(
    classifier: Classifier,
    attack: Attack,
    threat: Threat,
    examples: Iterable[Example],
    *,
    batch_size: int = 32,
    seed: int = 0,
    surrogate: Classifier | None = None,
    **options: Any,
) -> Generator[Result]:
    """Compile an attack and search with it once; see `search` for the results.

    Parameters
    ----------
    classifier
        The user's model, which judges the files.
    attack, threat, examples
        The attack, its threat, and the images.
    batch_size
        The number of rows that advance together.
    seed
        The seed of the random numbers, which also depend on the image's key, the attack and the restart.
    surrogate
        The model that is attacked in place of `classifier`.
    **options
        The options `draws` and `all_steps` of `search`.

    Raises
    ------
    SettingError
        The attack has no version for the threat's norm.
    """
    attacked = surrogate or classifier
    if attacked.deployment is None:
        batch = CompiledBatch(attacked, attack, threat, batch_size=batch_size, seed=seed)
        yield from search(batch, examples, judged_by=classifier, **options)
        return
    for canvas, some in by_canvas(attacked, attack, examples):
        rows = batch_size if canvas is None else min(batch_size, rows_on_canvas(attacked, canvas))
        batch = CompiledBatch(attacked, attack, threat, batch_size=rows, seed=seed, canvas=canvas)
        yield from search(batch, some, judged_by=classifier, **options)
