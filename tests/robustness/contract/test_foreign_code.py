"""What attacks of others raise and return is told in a sentence that names them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from keras import ops

import robustness
from robustness.attacks import Attack
from robustness.attacks.pgd import PGD
from robustness.contract.ensembles import resolve
from robustness.contract.foreign_code import farthest
from robustness.errors import AttackError
from robustness.threat.goals import Untargeted
from robustness.threat.norms import NORMS
from tests.robustness.helpers import small_cnn

PICTURES = np.random.default_rng(5).integers(60, 200, (3, 12, 12, 3)).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class Plain(Attack):
    """One signed step."""

    name = "plain"
    paper = "none"

    def init(self, task):
        return {"point": task.images}

    def step(self, task, state, look):
        direction = ops.sign(look(state["point"]).gradient)
        return {"point": task.descend(state["point"], direction, task.epsilon)}


def raises(*_):
    raise ValueError("the code of a plug-in")


def leaves(*_):
    raise SystemExit(0)


HOSTILE = {
    "init raises": (
        {"init": raises},
        r"failed in `init` \(test_foreign_code.py, line \d+\): ValueError: the",
    ),
    "step raises": (
        {"step": raises},
        r"failed in `step` \(test_foreign_code.py, line \d+\): ValueError: the",
    ),
    "step exits": ({"step": leaves}, "failed in `step` .*SystemExit"),
    "no state": ({"init": lambda *_: None}, "returned from `init` None; expected a dict of arrays"),
    "no point": (
        {"init": lambda s, t: {"x": t.images}},
        "'x' float32 .* expected .*'point' float32",
    ),
    "no rows": ({"init": lambda s, t: {"point": t.images, "n": ops.zeros(())}}, "'n' float32 ()"),
    "another type": (
        {"init": lambda s, t: {"point": ops.cast(t.images, "int32")}},
        "'point' int32",
    ),
    "one row": (
        {"step": lambda s, t, state, look: {"point": state["point"][:1]}},
        r"\(1, 12, 12, 3\)",
    ),
    "half a picture": (
        {"step": lambda s, t, state, look: {"point": state["point"][:, :5]}},
        "returned from `step` the state 'point' float32",
    ),
    "a new name": (
        {"step": lambda s, t, state, look: {**state, "y": t.epsilon}},
        "returned from `step` .*'y' float32 .*expected 'point' float32",
    ),
    "no look": ({"step": lambda s, t, state, look: state}, "did not evaluate the model in `step`"),
    "a look at half a picture": (
        {"step": lambda s, t, state, look: (look(state["point"][:, :5]), state)[1]},
        "evaluated the model at points of the shape",
    ),
    "a gradient for labels only": (
        {"knowledge": "decision"},
        "A decision attack read the gradient",
    ),
    "unknown knowledge": (
        {"knowledge": "whitebox"},
        "has the knowledge 'whitebox'; expected one of",
    ),
    "unknown seeks": (
        {"seeks": "nearest"},
        "has `seeks` 'nearest'; expected one of 'any', 'closest'",
    ),
    "norms as text": ({"norms": "linf"}, "has the norms 'linf'; expected a tuple"),
    "half a point": ({"width": 2.5}, "has `width` 2.5; expected a whole number"),
    "no distance": (
        {"farthest": lambda *_: float("nan")},
        "returned from `farthest` nan; expected",
    ),
    "farthest raises": ({"farthest": raises}, "failed in `farthest` "),
    "departure raises": ({"departure": raises}, "failed in `departure` "),
    "not adapted": (
        {"adapted_to": lambda *_: None},
        "returned from `adapted_to` None; expected an attack",
    ),
    "a name of the toolkit": ({"name": "pgd"}, "has the name 'pgd'; expected a name of its own"),
}


def made(parts) -> Attack:
    cls: Any = type("Hostile", (Plain,), {"name": "hostile", **parts, "__module__": __name__})
    return dataclass(frozen=True, kw_only=True)(cls)()


@pytest.mark.slow
@pytest.mark.parametrize(("parts", "sentence"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_attack_ends_the_audit_with_its_name(parts, sentence, tmp_path):
    attack = made(parts)
    with pytest.raises(AttackError, match=sentence) as error:
        robustness.audit(
            small_cnn(9), PICTURES, attacks=[attack], epsilons=[4], out=tmp_path / "run"
        )
    assert str(error.value).startswith(f"The attack {attack.name!r} ({__name__}:Hostile) ")


@pytest.mark.slow
def test_a_good_attack_and_an_error_of_the_toolkit_pass(tmp_path, monkeypatch):
    result = robustness.audit(
        small_cnn(9), PICTURES, attacks=[Plain()], epsilons=[4], out=tmp_path / "run"
    )
    assert set(result.to_frame()["attack"]) == {"plain(steps=1)"}
    monkeypatch.setattr(PGD, "farthest", raises)
    with pytest.raises(ValueError, match="the code of a plug-in"):
        farthest(PGD(), NORMS["linf"], 4.0, (4, 4, 1))


def test_an_attack_within_a_wrapper_is_named(tmp_path):
    from robustness.attacks.wrappers import Bisection

    with pytest.raises(AttackError, match=r"^The attack 'hostile' .*failed in `step`"):
        robustness.audit(
            small_cnn(9),
            PICTURES,
            attacks=[Bisection(of=made({"step": raises}))],
            epsilons=[4],
            out=tmp_path / "run",
        )


def test_an_attack_that_stands_in_is_resolved_with_its_phrase():
    attack = made({"adapted_to": lambda *_: (Plain(), "one step in place of ten")})
    found = resolve([attack], NORMS["linf"], Untargeted(), ["a", "b"])
    assert (found.attacks, found.replaced) == ((Plain(),), ("hostile: one step in place of ten",))


def test_an_entry_point_has_the_name_of_its_attack(monkeypatch):
    from importlib.metadata import EntryPoint, EntryPoints

    from robustness import plugins
    from robustness.contract import registry
    from robustness.errors import SettingError

    point = EntryPoint("other", f"{__name__}:Plain", plugins.ATTACKS)
    monkeypatch.setattr(
        plugins, "entry_points", lambda **asked: EntryPoints([point]).select(**asked)
    )
    with pytest.raises(
        SettingError, match="installed as 'other' has the name 'plain'; expected the same"
    ):
        registry.find("other")
