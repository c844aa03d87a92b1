"""Checks a norm against its contract: distances, projections and samples must agree with each other.

A norm whose projection leaves its ball, or whose `size` is not its `distance`, does not stop an audit: the
judge refuses every file, so that a model looks robust. Therefore norms of other packages are checked first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustness.errors import SettingError
from robustness.plugins import first_line
from robustness.text import visible
from robustness.threat.norms.arithmetic import ops
from robustness.threat.norms.measuring import ADVICE, distance, named
from robustness.threat.norms.norm import TOP, Norm

ROWS, SIDE = 6, 8
NEAR = 2e-3
"""The tolerance of float32 arithmetic, as a share."""
_TEXTS = ("name", "label", "measure", "axis", "meaning", "budget_words", "changes", "column")


def expect_sound(norm: Norm, channels: int = 3) -> None:
    """Refuse a norm that breaks its contract.

    Parameters
    ----------
    norm
        The norm.
    channels
        The number of channels of the pictures.

    Raises
    ------
    SettingError
        The message names the norm, the method, what it returned and what is expected.
    """
    for method, fault in _faults(norm, channels) if norm.measures else ():
        raise SettingError(
            f"{named(norm)} cannot be used on pictures of {channels} channels: `{method}` {fault}. {ADVICE}"
        )


def _faults(norm: Norm, channels: int) -> Iterator[tuple[str, str]]:
    """Yield the methods that break the contract, and how."""
    case = _Case.of(norm, channels)
    clauses: dict[str, Callable[[_Case], str]] = {
        "distance": _distance,
        "recount": _recount,
        "effective": _effective,
        "is_small": _is_small,
        "largest": _largest,
        "size": _size,
        "project": _project,
        "steepest": _steepest,
        "sample": _sample,
        "to_grid": _to_grid,
    }
    yield from _words(norm)
    if norm.column != norm.name:
        yield "column", f"is {visible(repr(norm.column)[:100])}; expected the name of the norm"
    for method, clause in clauses.items():
        try:
            fault = clause(case)
        except (KeyboardInterrupt, MemoryError):
            raise
        except SettingError as error:
            if str(error).startswith(named(norm)):
                raise
            fault = f"raised {visible(first_line(error))}"
        except BaseException as error:  # a plug-in may raise anything, SystemExit included
            fault = f"raised {visible(first_line(error))}"
        if fault:
            yield method, fault


@dataclass(frozen=True)
class _Case:
    """Pictures and their changes."""

    norm: Norm
    before: np.ndarray
    after: np.ndarray

    @classmethod
    def of(cls, norm: Norm, channels: int) -> _Case:
        rng = np.random.default_rng(0)
        before, after = rng.integers(0, 256, (2, ROWS, SIDE, SIDE, channels)).astype(np.uint8)
        after[1::2] = np.clip(before[1::2] + rng.integers(-9, 10, before[1::2].shape), 0, TOP)
        after[2] = before[2]
        after[2, 3, 4] = 255 - before[2, 3, 4]
        before.flags.writeable = after.flags.writeable = False
        return cls(norm, before, after)

    @property
    def delta(self) -> np.ndarray:
        return self.after.astype("float32") - self.before

    @property
    def room(self) -> tuple[np.ndarray, np.ndarray]:
        low = -self.before.astype("float32")
        return low, TOP + low

    @property
    def far(self) -> np.ndarray:
        pairs = zip(self.before, self.after, strict=True)
        return np.array([distance(self.norm, *pair) for pair in pairs], "float32")

    @property
    def radii(self) -> np.ndarray:
        """Budgets smaller than the changes, and one that is larger."""
        shares = np.array([0.1, 0.5, 1.0, 0.3, 0.02, 2.0], "float32")
        return np.maximum(self.norm.effective(1.0), self.far * shares).astype("float32")


def _words(norm: Norm) -> Iterator[tuple[str, str]]:
    for name in _TEXTS:
        text = getattr(norm, name, None)
        if not isinstance(text, str) or not text:
            yield name, f"is {visible(repr(text)[:100])}; expected a text"
            continue
        if name in ("meaning", "budget_words"):
            try:
                text.format("4")
            except (LookupError, ValueError):
                yield (
                    name,
                    f"is {visible(repr(text)[:100])}; expected {{0}} as its only place for a number",
                )


def _distance(case: _Case) -> str:
    same = distance(case.norm, case.before[0], case.before[0])
    if same:
        return f"of equal pictures is {same:g}; expected 0"
    zero = [i for i, far in enumerate(case.far) if not far > 0]
    return "of different pictures is 0" if len(zero) == ROWS else ""


def _recount(case: _Case) -> str:
    for before, after, far in zip(case.before, case.after, case.far, strict=True):
        again = distance(case.norm, before, after, "recount")
        if not math.isclose(again, far, rel_tol=1e-6, abs_tol=1e-6):
            return f"is {again:.6g} where `distance` is {far:.6g}; expected the same"
    return ""


def _effective(case: _Case) -> str:
    for far in map(float, case.far):
        usable = case.norm.effective(far)
        if not math.isclose(usable, far, rel_tol=1e-6):
            return f"is {usable:g} for the budget {far:g}, the distance of two pictures; expected the same"
    return ""


def _is_small(case: _Case) -> str:
    small = case.norm.is_small(1.0, case.before.shape[1:])
    return (
        "" if isinstance(small, (bool, np.bool_)) else f"is {small!r:.100}; expected True or False"
    )


def _largest(case: _Case) -> str:
    most = float(case.norm.largest(SIDE * SIDE, case.before.shape[-1]))
    black = np.zeros_like(case.before[0])
    far = max(*case.far, distance(case.norm, black, black + np.uint8(TOP)))
    if not most >= far * (1 - NEAR):
        return f"is {most:g}, but two pictures are {far:g} apart; expected at least that"
    return ""


def _size(case: _Case) -> str:
    sizes = _rows(case, case.norm.size(ops.convert_to_tensor(case.delta)), (ROWS,))
    if isinstance(sizes, str):
        return sizes
    off = np.abs(sizes - case.far) > NEAR * np.maximum(case.far, 1)
    if off.any():
        i = int(off.argmax())
        return f"is {sizes[i]:.6g} where `distance` is {case.far[i]:.6g}; expected the same"
    return ""


def _project(case: _Case) -> str:
    near = _inside(
        case, case.norm.project(*_tensors(case.delta, case.radii, *case.room)), case.radii
    )
    if isinstance(near, str):
        return near
    kept = case.far <= case.radii
    moved = np.abs(near - case.delta)[kept]
    if moved.size and moved.max() > 0.1:
        return f"moves a change that is within the budget already by {moved.max():.3g} counts"
    return ""


def _steepest(case: _Case) -> str:
    gradient = case.delta / TOP
    try:
        steep = case.norm.steepest(ops.convert_to_tensor(gradient))
    except SettingError:
        return ""  # there is none
    steep = _rows(case, steep, gradient.shape)
    if isinstance(steep, str):
        return steep
    if (rise := (steep * gradient).sum(axis=(1, 2, 3)).min()) <= 0:
        return f"changes a linear function by {rise:.3g}; expected a direction along which it rises"
    sizes = _as_numpy(case.norm.size(*_tensors(steep)))
    if np.abs(sizes - 1).max() > NEAR:
        worst = sizes[np.abs(sizes - 1).argmax()]
        return f"returns a change of the size {worst:.6g}; expected 1"
    return ""


def _sample(case: _Case) -> str:
    keys, radii = _tensors(np.arange(2 * ROWS, dtype="int32").reshape(ROWS, 2), case.radii)
    points = case.norm.sample(keys, radii, case.before.shape[1:])
    inside = _inside(case, points, case.radii, boxed=False)
    if isinstance(inside, str):
        return inside
    if not np.abs(inside).max() > 0:
        return "returns no change; expected random ones"
    return ""


def _to_grid(case: _Case) -> str:
    near = case.norm.project(*_tensors(case.delta, case.radii, *case.room))
    grid = case.norm.to_grid(near, *_tensors(case.radii, *case.room))
    inside = _inside(case, grid, case.radii)
    if isinstance(inside, str):
        return inside
    if (inside != np.round(inside)).any():
        return "returns changes that are not whole counts"
    return ""


def _inside(case: _Case, changes: Any, radii: np.ndarray, boxed: bool = True) -> np.ndarray | str:
    """Changes as an array; a fault if one is outside the budget or 0..255."""
    found = _rows(case, changes, case.before.shape)
    if isinstance(found, str):
        return found
    sizes = _as_numpy(case.norm.size(*_tensors(found)))
    over = sizes > radii * (1 + NEAR) + 1e-4
    if over.any():
        i = int(over.argmax())
        return f"returns a change of the size {sizes[i]:.6g} for the budget {radii[i]:.6g}"
    low, high = case.room
    if boxed and ((found < low - 1e-2) | (found > high + 1e-2)).any():
        return "returns a change that leads out of 0..255"
    return found


def _rows(case: _Case, values: Any, shape: tuple[int, ...]) -> np.ndarray | str:
    """Values as a float array; a fault if their shape is another, or if some are not finite."""
    array = _as_numpy(values)
    if array.shape != shape:
        return f"returns the shape {array.shape}; expected {shape}"
    if not np.isfinite(array).all():
        return "returns numbers that are not finite"
    return array


def _tensors(*arrays: np.ndarray) -> list[Any]:
    return [
        ops.convert_to_tensor(array.astype("float32") if array.dtype.kind == "f" else array)
        for array in arrays
    ]


def _as_numpy(values: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(values), dtype="float64")
