"""What the attacker wants: the only place that asks "targeted?".

A goal turns labels into *aims* (the class a loss is taken against, per row), gives the loss its sign
so that recipes only ever lower it, and decides whether a point has reached it.
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
    """Aims, sign and predicate of an attack; `target` is the class to reach, None for any other class."""

    target: int | None

    @abstractmethod
    def aims(self, labels: np.ndarray) -> np.ndarray:
        """The class each row's loss is taken against, (rows,) int32."""

    @abstractmethod
    def loss(self, loss: Callable[[Any, Any], Any], logits: Any, aims: Any) -> Any:
        """What the attack lowers, (rows,)."""

    @abstractmethod
    def reached(self, predicted: Any, aims: Any) -> Any:
        """Whether each predicted class is what the attacker wants, (rows,) bool; arrays or tensors."""

    @abstractmethod
    def route(self, aims: Any, others: Any) -> tuple[Any, Any]:
        """The class to leave and the class to come to, each (rows,), where `others` is no row's aim."""

    @abstractmethod
    def destinations(self, classes: int) -> int:
        """How many of so many classes an image may be led to."""

    @abstractmethod
    def concerns(self, label: int) -> bool:
        """Whether an image of class `label` can be attacked with this goal."""

    @abstractmethod
    def describe(self, class_names: Sequence[str]) -> str:
        """One phrase for a report."""


@dataclass(frozen=True)
class Untargeted(Goal):
    """Leave the true class, for any other."""

    target = None

    def aims(self, labels: np.ndarray) -> np.ndarray:
        return np.asarray(labels, np.int32)

    def loss(self, loss: Callable[[Any, Any], Any], logits: Any, aims: Any) -> Any:
        return -loss(logits, aims)

    def reached(self, predicted: Any, aims: Any) -> Any:
        return predicted != aims

    def route(self, aims: Any, others: Any) -> tuple[Any, Any]:
        return aims, others

    def destinations(self, classes: int) -> int:
        return classes - 1

    def concerns(self, label: int) -> bool:
        return True

    def describe(self, class_names: Sequence[str]) -> str:
        return "untargeted"


@dataclass(frozen=True)
class Targeted(Goal):
    """Reach the class `target`."""

    target: int

    def aims(self, labels: np.ndarray) -> np.ndarray:
        return np.full(len(labels), self.target, np.int32)

    def loss(self, loss: Callable[[Any, Any], Any], logits: Any, aims: Any) -> Any:
        return loss(logits, aims)

    def reached(self, predicted: Any, aims: Any) -> Any:
        return predicted == aims

    def route(self, aims: Any, others: Any) -> tuple[Any, Any]:
        return others, aims

    def destinations(self, classes: int) -> int:
        return 1

    def concerns(self, label: int) -> bool:
        return label != self.target

    def describe(self, class_names: Sequence[str]) -> str:
        return f"targeted at {class_names[self.target]}"


def predicted(logits: Any) -> Any:
    """The class of each row of logits, (rows,) int32."""
    return ops.cast(ops.argmax(logits, axis=-1), "int32")


def parse(target: str | int | None, class_names: Sequence[str]) -> Goal:
    """`Untargeted` for None, else the class named or numbered; SettingError if there is none such."""
    if target is None:
        return Untargeted()
    if isinstance(target, str) and target in class_names:
        return Targeted(list(class_names).index(target))
    if str(target).isdigit() and int(target) < len(class_names):
        return Targeted(int(target))
    raise SettingError(
        f"Unknown target class {target!r}; expected one of {', '.join(class_names)}, "
        f"or its number, 0 to {len(class_names) - 1}."
    )
