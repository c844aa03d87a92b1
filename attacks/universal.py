"""Universal perturbations and patches: apply a change that `robustness fit` has fitted to each image."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from robustness.attacks.universal_fit import Fitted
from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Look
from robustness.contract.task import Task
from robustness.contract.types import State
from robustness.errors import SettingError
from robustness.threat.norms import Norm


@dataclass(frozen=True, kw_only=True)
class _Fitted(Attack):
    """The common part: evaluate each image with the fitted change in `file` applied."""

    baseline: ClassVar[bool] = True
    padded: ClassVar[bool] = False

    file: str | None = setting(
        None,
        "the file that `robustness fit` wrote",
        automatic="none; it must be given",
        words="a path",
    )

    def expect_norm(self, norm: Norm) -> None:
        super().expect_norm(norm)
        self._fitted()

    def _fitted(self) -> Fitted:
        if self.file is None:
            raise SettingError(
                f"{self.name} needs the file of a fitted change; fit one with `robustness fit`, and give "
                f"it as {self.name}:file=PATH."
            )
        fitted = Fitted.load(self.file)
        if (fitted.place is None) != (self.name == "universal"):
            other = "patch" if self.name == "universal" else "universal"
            raise SettingError(
                f"{self.file} is for the attack {other}; give it as {other}:file={self.file}."
            )
        return fitted

    @property
    def label(self) -> str:
        # Without the folder: a run may be resumed from another directory.
        return super(_Fitted, self._bare()).label

    @property
    def fitted_on(self) -> dict[str, Any] | None:
        return self._fitted().card or None

    def parameters(self) -> dict[str, Any]:
        return {**asdict(self._bare()), "sha256": self._fitted().digest}

    def _bare(self) -> Self:
        return replace(self, file=None if self.file is None else Path(self.file).name)

    def farthest(self, norm: Norm, epsilon: float, shape: tuple[int, ...]) -> float:
        if self.file is None:
            return 0.0
        fitted = self._fitted()
        # The pixels of a patch, or the budget of the fit.
        return float(fitted.place.side**2 if fitted.place else fitted.epsilon)

    def init(self, task: Task) -> State:
        return {"point": task.images}

    def step(self, task: Task, state: State, look: Look) -> State:
        if self.file is None:
            point = task.images
        else:
            fitted, shape = self._fitted(), tuple(task.images.shape[1:])
            if fitted.values.shape != shape:
                raise SettingError(
                    f"{self.file} is for images of shape {fitted.values.shape}; expected {shape}."
                )
            point = task.project(fitted.onto(task.images))
        look(point)
        return {"point": point}


@dataclass(frozen=True, kw_only=True)
class Universal(_Fitted):
    """Universal perturbation: does one change, added to every image and projected onto the ball, flip it?

    Parameters
    ----------
    file
        The fitted perturbation, a file that `robustness fit` wrote.

    References
    ----------
    Moosavi-Dezfooli et al. 2017, arXiv:1610.08401.
    Shafahi et al. 2020, arXiv:1811.11304, for the fit.
    """

    name: ClassVar[str] = "universal"
    paper: ClassVar[str] = "Moosavi-Dezfooli et al. 2017, arXiv:1610.08401"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")


@dataclass(frozen=True, kw_only=True)
class Patch(_Fitted):
    """Adversarial patch: does one square, placed over a part of every image, flip it?

    Epsilon is the number of pixels of the patch. Its place is the same in every image.

    Parameters
    ----------
    file
        The fitted patch, a file that `robustness fit` wrote.

    References
    ----------
    Brown et al. 2017, arXiv:1712.09665.
    """

    name: ClassVar[str] = "patch"
    paper: ClassVar[str] = "Brown et al. 2017, arXiv:1712.09665"
    norms: ClassVar[tuple[str, ...]] = ("l0",)
