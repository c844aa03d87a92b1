"""Calls attacks and norms of others: what they raise or return is told in a sentence that names them.

The code of the toolkit itself is not judged here: an error in it is a bug, whose traceback helps.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any, NoReturn, get_args

import keras
import numpy as np

from robustness import backend, plugins
from robustness.contract.attack import Attack
from robustness.contract.types import Knowledge, Seeks, State
from robustness.errors import AttackError, RobustnessError, SettingError
from robustness.plugins import first_line, is_foreign
from robustness.text import visible
from robustness.threat.goals import Goal
from robustness.threat.norms import Norm, measuring

Shape = tuple[int, ...]
Part = tuple[str, Shape | None]
"""The type and the shape of an array of a state."""
_PASSED: tuple[type[BaseException], ...] = (
    *(RobustnessError, KeyboardInterrupt, GeneratorExit, MemoryError),
    *backend.OutOfMemory,
)


@contextmanager
def calling(method: str, *parts: Attack | Norm) -> Iterator[None]:
    """Tell an exception of foreign code within the block in one sentence.

    Parameters
    ----------
    method
        The method that is called, for the message.
    *parts
        The attack or the norm whose method it is, then others whose code it may call.

    Raises
    ------
    AttackError
        An attack of another package raised an exception.
    SettingError
        A norm of another package raised one.
    """
    try:
        yield
    except _PASSED:
        raise
    except BaseException as error:  # foreign code may raise anything, SystemExit included
        blamed, where = _blamed(error, [part for one in parts for part in with_inner(one)])
        if blamed is None:
            raise
        raise _kind(blamed)(
            f"{named(blamed)} failed in `{method}`{where}: {visible(first_line(error))}. {_advice(blamed)}"
        ) from error


def named(part: Attack | Norm) -> str:
    """Return "The attack 'name' (module:class)" or "The norm ...", the beginning of a sentence."""
    if isinstance(part, Norm):
        return measuring.named(part)
    kind = type(part)
    return visible(f"The attack {str(part.name)[:100]!r} ({kind.__module__}:{kind.__qualname__})")


def _kind(part: Attack | Norm) -> type[RobustnessError]:
    return AttackError if isinstance(part, Attack) else SettingError


def _advice(part: Attack | Norm) -> str:
    if isinstance(part, Attack):
        return "Correct it (`robustness check-attack` tests it), or leave it out."
    return measuring.ADVICE


def with_inner(part: Attack | Norm) -> Iterator[Attack | Norm]:
    """Yield an attack or a norm, and the attack inside it if it is a wrapper."""
    yield part
    inner = getattr(part, "of", None)
    if isinstance(inner, Attack):
        yield from with_inner(inner)


def _blamed(error: BaseException, parts: list[Attack | Norm]) -> tuple[Attack | Norm | None, str]:
    """The foreign part in whose file the error arose, and the place; without one the first foreign part."""
    foreign = [part for part in parts if is_foreign(part)]
    files = {file: part for part in reversed(foreign) for file in _files(part)}
    frames = [(f.f_code.co_filename, line) for f, line in walk_tb(error.__traceback__)]
    for file, line in reversed(frames):
        if file in files:
            return files[file], f" ({visible(Path(file).name)}, line {line})"
    return (foreign[0] if foreign else None), ""


def _files(part: Attack | Norm) -> set[str]:
    """The files of the foreign classes of a part."""
    files = set()
    for cls in type(part).__mro__:
        if cls.__module__.partition(".")[0] in ("robustness", "builtins", "abc"):
            continue
        try:
            files.add(inspect.getfile(cls))
        except (TypeError, OSError):
            continue  # a class that was typed in a notebook
    return files


def expect_declared(attack: Attack) -> None:
    """Refuse an attack of another package whose declarations are none, or whose name is the toolkit's.

    Raises
    ------
    AttackError
        The message names the declaration and says what is expected.
    """
    if not is_foreign(attack):
        return
    if not isinstance(attack.name, str) or plugins.is_own(plugins.ATTACKS, attack.name):
        _refuse(
            attack, "the name", attack.name, "a name of its own, which no attack of the toolkit has"
        )
    if attack.knowledge not in get_args(Knowledge):
        _refuse(attack, "the knowledge", attack.knowledge, "one of", *get_args(Knowledge))
    if attack.seeks not in get_args(Seeks):
        _refuse(attack, "`seeks`", attack.seeks, "one of", *get_args(Seeks))
    if not isinstance(attack.norms, tuple) or not all(isinstance(n, str) for n in attack.norms):
        _refuse(attack, "the norms", attack.norms, "a tuple of names, such as ('linf',)")
    for number in ("steps", "restarts", "width"):
        with calling(number, attack):
            value = getattr(attack, number)
        if not isinstance(value, int) or value < 1:
            _refuse(attack, f"`{number}`", value, "a whole number of at least 1")


def _refuse(attack: Attack, what: str, found: object, expected: str, *choices: str) -> NoReturn:
    words = " ".join((expected, ", ".join(map(repr, choices)))).strip()
    got = visible(repr(found)[:200])
    raise AttackError(f"{named(attack)} has {what} {got}; expected {words}. {_advice(attack)}")


def adapted(attack: Attack, norm: Norm, goal: Goal, classes: int) -> tuple[Attack, list[str]]:
    """Return the attack adapted to a goal and a number of classes, and phrases of what differs.

    Raises
    ------
    AttackError
        An attack of another package raised an exception, or did not return what is expected.
    """
    expect_declared(attack)
    with calling("adapted_to", attack):
        result = attack.adapted_to(goal, classes)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], Attack)):
        raise _broken(attack, "adapted_to", repr(result), "an attack and a phrase")
    with calling("departure", result[0]):
        departure = result[0].departure(norm)
    for method, phrase in (("adapted_to", result[1]), ("departure", departure)):
        if not isinstance(phrase, str):
            raise _broken(
                attack, method, f"{phrase!r} as its phrase", 'text, "" if nothing differs'
            )
    return result[0], [phrase for phrase in (result[1], departure) if phrase]


def farthest(attack: Attack, norm: Norm, epsilon: float, shape: Shape) -> float:
    """Return ``attack.farthest(norm, epsilon, shape)``.

    Raises
    ------
    AttackError
        An attack of another package raised an exception, or returned no number from 0 on.
    """
    with calling("farthest", attack, norm):
        far = attack.farthest(norm, epsilon, shape)
    if not isinstance(far, (int, float, np.number)) or not far >= 0:
        expected = "a distance of 0 or more, infinity if only epsilon limits the attack"
        raise _broken(attack, "farthest", repr(far), expected)
    return float(far)


def first_state(attack: Attack, norm: Norm, task: Any) -> State:
    """Return ``attack.init(task)``.

    Raises
    ------
    AttackError
        The attack raised an exception, or returned no state of rows.
    """
    with calling("init", attack, norm):
        state = attack.init(task)
    if is_foreign(attack):
        _expect_state(attack, "init", state, tuple(task.images.shape))
    return state


def next_state(attack: Attack, norm: Norm, task: Any, state: State, look: Any) -> State:
    """Return ``attack.step(task, state, look)``.

    Raises
    ------
    AttackError
        The attack raised an exception, returned a state of other names, shapes or types, or did not evaluate
        the model although it is no baseline.
    """
    try:
        with calling("step", attack, norm):
            after = attack.step(task, state, look)
    except AttackError as error:
        if not is_foreign(attack) or str(error).startswith(named(attack)):
            raise
        raise AttackError(f"{named(attack)} broke its contract. {error}") from error
    if is_foreign(attack):
        _expect_state(attack, "step", after, tuple(task.images.shape))
        was, now = _described(state), _described(after)
        if was.keys() != now.keys() or not all(_alike(was[name], now[name]) for name in was):
            raise _broken(attack, "step", f"the state {_listed(now)}", _listed(was))
        if not attack.baseline and not look.forward:
            raise AttackError(
                f"{named(attack)} did not evaluate the model in `step`: it learns nothing from it, and every "
                "model would look robust. Call `look`, or declare `baseline = True`."
            )
    return after


def _expect_state(attack: Attack, method: str, state: Any, shape: Shape) -> None:
    expected = f"a dict of arrays with 'point' float32 {shape} in it, each with {shape[0]} rows"
    if not isinstance(state, Mapping) or not all(hasattr(x, "shape") for x in state.values()):
        raise _broken(attack, method, repr(state), expected)
    parts = _described(state)
    rows = all(known is None or known[:1] == shape[:1] for _, known in parts.values())
    if not rows or not _alike(parts.get("point"), ("float32", shape)):
        raise _broken(attack, method, f"the state {_listed(parts)}", expected)


def _described(state: Mapping[str, Any]) -> dict[str, Part]:
    return {
        str(name): (keras.backend.standardize_dtype(x.dtype), _shape(x))
        for name, x in sorted(state.items())
    }


def _shape(array: Any) -> Shape | None:
    """The shape of an array; None if a compiled function does not know all of it."""
    try:
        shape = tuple(array.shape)
    except ValueError:
        return None
    return None if None in shape else shape


def _alike(one: Part | None, other: Part) -> bool:
    if one is None or one[0] != other[0]:
        return False
    return one[1] is None or other[1] is None or one[1] == other[1]


def _listed(parts: Mapping[str, Part]) -> str:
    return ", ".join(f"{name!r} {kind} {shape}" for name, (kind, shape) in parts.items()) or "{}"


def _broken(attack: Attack, method: str, got: str, expected: str) -> AttackError:
    return AttackError(
        f"{named(attack)} returned from `{method}` {visible(got[:600])}; expected {expected}. "
        f"{_advice(attack)}"
    )
