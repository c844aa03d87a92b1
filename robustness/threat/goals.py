"""Goals of an attack: untargeted (any other class) or targeted (a given class).

A goal converts labels to *aims* (the class that each row's loss is taken against), gives the loss its sign so
that attacks always minimise it, and decides whether a point has reached the goal. No other module
distinguishes targeted from untargeted attacks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from robustness.errors import SettingError


class Goal(ABC):
    """A goal: the aims of an attack, the sign of its loss, and the test for success.

    `target` is the class to reach; None for any other class.
    """

    target: int | None

    @abstractmethod
    def aims(self, labels: np.ndarray) -> np.ndarray:
        """Return the class that each row's loss is taken against, (rows,) int32.

        Parameters
        ----------
        labels
            (rows,) int: the class of each image.
        """

    @abstractmethod
    def loss(self, loss: Callable[[Any, Any], Any], logits: Any, aims: Any) -> Any:
        """Return the quantity that the attack minimises.

        Parameters
        ----------
        loss
            A loss of `robustness.numerics.losses`.
        logits
            (rows, classes).
        aims
            (rows,) int32, as `aims` returns them.

        Returns
        -------
        (rows,).
        """

    @abstractmethod
    def reached(self, predicted: Any, aims: Any) -> Any:
        """Return whether each predicted class reaches the goal, (rows,) bool, for arrays or tensors."""

    @abstractmethod
    def route(self, aims: Any, others: Any) -> tuple[Any, Any]:
        """Return the class to leave and the class to reach, for each row.

        Parameters
        ----------
        aims
            (rows,) int32.
        others
            (rows,) int32: a class that differs from the row's aim.

        Returns
        -------
        Two (rows,) int32.
        """

    @abstractmethod
    def destinations(self, classes: int) -> int:
        """Return the number of classes that reach the goal, of `classes` in total."""

    @abstractmethod
    def concerns(self, label: int) -> bool:
        """Return whether an image of class `label` can be attacked: not if that is the target class."""

    @abstractmethod
    def describe(self, class_names: Sequence[str]) -> str:
        """Return the goal as a phrase, for `run.json` and reports."""


@dataclass(frozen=True)
class Untargeted(Goal):
    """Reach any class but the true one."""

    target = None

    def aims(self, labels: np.ndarray) -> np.ndarray:
        """Return the true classes, (rows,) int32."""
        return np.asarray(labels, np.int32)

    def loss(self, loss: Callable[[Any, Any], Any], logits: Any, aims: Any) -> Any:
        """Return the negated loss of the true class, (rows,)."""
        return -loss(logits, aims)

    def reached(self, predicted: Any, aims: Any) -> Any:
        """Return whether each predicted class differs from the true one, (rows,) bool."""
        return predicted != aims

    def route(self, aims: Any, others: Any) -> tuple[Any, Any]:
        """Return the true classes to leave and `others` to reach."""
        return aims, others

    def destinations(self, classes: int) -> int:
        """Return `classes` - 1: every class but the true one."""
        return classes - 1

    def concerns(self, label: int) -> bool:
        """Return True: every image can be attacked."""
        return True

    def describe(self, class_names: Sequence[str]) -> str:
        """Return ``untargeted``."""
        return "untargeted"


@dataclass(frozen=True)
class Targeted(Goal):
    """Reach the class `target`."""

    target: int

    def aims(self, labels: np.ndarray) -> np.ndarray:
        """Return the target class for every row, (rows,) int32."""
        return np.full(len(labels), self.target, np.int32)

    def loss(self, loss: Callable[[Any, Any], Any], logits: Any, aims: Any) -> Any:
        """Return the loss of the target class, (rows,)."""
        return loss(logits, aims)

    def reached(self, predicted: Any, aims: Any) -> Any:
        """Return whether each predicted class is the target, (rows,) bool."""
        return predicted == aims

    def route(self, aims: Any, others: Any) -> tuple[Any, Any]:
        """Return `others` to leave and the target class to reach."""
        return others, aims

    def destinations(self, classes: int) -> int:
        """Return 1: the target class."""
        return 1

    def concerns(self, label: int) -> bool:
        """Return whether `label` differs from the target class."""
        return label != self.target

    def describe(self, class_names: Sequence[str]) -> str:
        """Return the phrase that names the target class."""
        return f"targeted at {class_names[self.target]}"


def predicted(logits: Any) -> Any:
    """Return the class of each row of logits, (rows,) int32."""
    return ops.cast(ops.argmax(logits, axis=-1), "int32")


def parse(target: str | int | None, class_names: Sequence[str]) -> Goal:
    """Return the goal for a target class.

    Parameters
    ----------
    target
        The name or number of a class; None for an untargeted attack. A name may differ from that of the
        class in capital letters if only one class fits.
    class_names
        The class names of the model, in the order of its outputs.

    Raises
    ------
    SettingError
        No class has the name or number.
    """
    if target is None:
        return Untargeted()
    if isinstance(target, str) and target in class_names:
        return Targeted(list(class_names).index(target))
    if str(target).isdigit() and int(target) < len(class_names):
        return Targeted(int(target))
    small = str(target).casefold()
    alike = [n for n, name in enumerate(class_names) if name.casefold() == small]
    if len(alike) == 1:
        return Targeted(alike[0])
    raise SettingError(
        f"Unknown target class {target!r}; expected one of {', '.join(class_names)}, "
        f"or its number, 0 to {len(class_names) - 1}."
    )
