"""The clauses of the attack contract: each returns the fault of an attack as a sentence, or ""."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from robustness.contract.attack import Attack
from robustness.engine.jobs import AttackJob
from robustness.errors import SettingError
from robustness.testing.linear_case import IMAGES, SHAPE, LinearCase
from robustness.threat import norms
from robustness.threat.goals import Targeted

NEAR, SPARSE_NEAR = 1.05, 1.25
"""The factor of the least distance allowed to attacks that seek the closest point; that in sparse norms."""


def declaration_fault(attack: Any) -> str:
    """Check the declarations of an attack.

    Parameters
    ----------
    attack : Any
        A class or an object.

    Returns
    -------
    str
        The fault as a sentence; "" if there is none.
    """
    cls = attack if isinstance(attack, type) else type(attack)
    if not issubclass(cls, Attack):
        return f"{cls.__name__} is not an Attack; derive it from robustness.attacks.Attack."
    missing = [n for n in ("name", "paper", "norms") if not getattr(cls, n, None)]
    if missing:
        return f"{cls.__name__} lacks {', '.join(missing)}; set them as class variables."
    if unlike := _unlike_declaration(cls):
        return unlike
    try:
        if isinstance(attack, type):
            attack()
    except (SettingError, TypeError) as error:
        return f"it cannot be created without arguments ({error}); give every parameter a default."
    return ""


def _unlike_declaration(cls: type[Attack]) -> str:
    """The fault of a declaration that has a value."""
    if not isinstance(cls.norms, tuple):
        return f"norms is {cls.norms!r}; expected a tuple of names, such as ('linf',)."
    unknown = [n for n in cls.norms if n not in norms.names()]
    if unknown:
        return f"norms {', '.join(unknown)} are not known; expected some of {', '.join(norms.names())}."
    if cls.knowledge not in ("white-box", "score", "decision"):
        return f"knowledge is {cls.knowledge!r}; expected white-box, score or decision."
    if cls.seeks not in ("any", "closest"):
        return f"seeks is {cls.seeks!r}; expected any or closest."
    return ""


def _state(case: LinearCase) -> str:
    batch = case.batch(IMAGES)
    job = AttackJob(case.example(0), case.budget)
    state = batch.load(None, range(IMAGES), [job] * IMAGES)["own"]
    if "point" not in state:
        return f"the state has the keys {', '.join(state)}; expected the images under 'point'."
    if tuple(state["point"].shape) != (IMAGES, *SHAPE):
        return f"'point' has shape {tuple(state['point'].shape)}; expected {(IMAGES, *SHAPE)}."
    short = [name for name, x in state.items() if not x.shape or x.shape[0] != IMAGES]
    return (
        f"{', '.join(short)} in the state: expected a first axis of length {IMAGES}, the rows."
        if short
        else ""
    )


def _finite(case: LinearCase) -> str:
    for i, points in case.points().items():
        if not np.isfinite(points).all():
            step = int(np.argmin(np.isfinite(points).all(axis=(1, 2, 3))))
            return (
                f"image {i} has NaN or infinite numbers after step {step}. Guard divisions, roots and "
                "logarithms: a gradient may be zero everywhere."
            )
    return ""


def _budget(case: LinearCase) -> str:
    bounded = case.attack.seeks == "any"
    for i, points in case.points().items():
        least, most = points.min(), points.max()
        if least < -1e-3 or most > 255 + 1e-3:
            return f"image {i} has values outside 0..255 ({least:.4g}..{most:.4g}); end with task.project."
        change = points - case.images[i].astype("float32")
        size = np.asarray(ops.convert_to_numpy(case.norm.size(change)))
        if bounded and size.max() > case.budget * (1 + 1e-4):
            return (
                f"image {i} is {size.max():.5g} from its original after step {int(size.argmax())}; "
                f"the budget is {case.budget:g}. End with task.project."
            )
    return ""


def _does_something(case: LinearCase) -> str:
    unchanged = [
        i
        for i, points in case.points().items()
        if not np.abs(points - case.images[i].astype("float32")).max() > 0
    ]
    if unchanged:
        return (
            f"{len(unchanged)} of {IMAGES} images are unchanged at every step. Return the new point under "
            "'point' in the state that `step` returns."
        )
    return ""


def _independent_rows(case: LinearCase) -> str:
    together = case.points(stretch=2)
    others = {"in another order": case.points(range(IMAGES - 1, -1, -1), stretch=2)}
    # Among copies of itself, in a batch of the same shape, where the last bits are equal as well.
    copies = [0] * (IMAGES // 2) + [1] * (IMAGES - IMAGES // 2)
    others["among copies of itself"] = case.points(copies, stretch=2)
    if case.attack.seeks == "any":
        others["alone"] = {i: case.points([i], stretch=2)[i] for i in (0, 1)}
    # An attack that circles the boundary amplifies the last bits, which a batch of another shape changes.
    for company, all_points in others.items():
        for i, points in all_points.items():
            difference = float(np.abs(points - together[i]).max())
            if difference > 1e-3 * case.budget:
                return (
                    f"image {i} differs by {difference:.3g} counts {company}; a row may not depend on its "
                    "neighbours. Reduce over axes 1 and up only, and use task.per_row. Keep all memory in "
                    "the state, and draw random numbers with task.uniform or task.normal."
                )
    return ""


def _seeded(case: LinearCase) -> str:
    first, second = case.points(), case.points(again=True)
    # The second run may take fewer steps.
    if not all(np.array_equal(first[i][: len(second[i])], second[i]) for i in first):
        return "two runs with the same seed differ; draw random numbers with task.uniform or task.normal."
    return ""


def _flips_a_linear_model(case: LinearCase) -> str:
    if case.attack.baseline:
        return ""
    robust = [key for key, outcome in case.outcomes().items() if outcome.flip is None]
    if robust:
        return (
            f"{len(robust)} of {IMAGES} images do not flip at epsilon {case.budget:g}, three times the "
            "distance to the boundary of a linear model. Check the sign and the size of the steps."
        )
    return ""


def _near_the_least_distance(case: LinearCase) -> str:
    if case.attack.seeks == "any":
        return ""
    factor = SPARSE_NEAR if case.norm.sparse else NEAR
    for i in range(IMAGES):
        least, nearest = case.least_distance(i), np.inf
        if least is None:
            return ""
        # An attack with several starts may need more than the first.
        for restart in range(case.attack.restarts):
            nearest = min(nearest, case.distances(restart)[i])
            if nearest < least * (1 - 1e-3):
                return (
                    f"image {i} counts as flipped at the distance {nearest:.5g}, but no point nearer than "
                    f"{least:.5g} flips."
                )
            # If another class lies between the image and the target, the least distance is only a bound.
            if nearest <= factor * least or isinstance(case.goal, Targeted):
                break
        else:
            return (
                f"image {i} is flipped at the distance {nearest:.5g}; expected at most {factor:g} times the "
                f"least distance {least:.5g}."
            )
    return ""


DECLARES_ITSELF = "declares itself"

CLAUSES: dict[str, Callable[[LinearCase], str]] = {
    "keeps a state of rows": _state,
    "stays finite": _finite,
    "stays within the budget": _budget,
    "does something": _does_something,
    "treats rows independently": _independent_rows,
    "is decided by its seed": _seeded,
    "flips a linear model": _flips_a_linear_model,
    "comes near the least distance": _near_the_least_distance,
}
"""The clauses in the order in which they are checked; a fault of one may cause faults of later ones."""
