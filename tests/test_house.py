"""The house rules, held by machine: format, lint, types, arrows, public names, one loop."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("robustness", "attacks", "model_zoo", "reports")


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def tool(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def test_the_code_is_formatted_and_lint_free():
    assert not run(tool("ruff"), "format", "--check", "--quiet", ".")
    assert not run(tool("ruff"), "check", "--quiet", ".")


def test_the_arrows_between_rooms_point_down():
    assert not run(tool("lint-imports"), "--no-cache")


@pytest.mark.slow
def test_types_are_right():
    assert not run(tool("mypy"))


def test_the_public_names_are_these():
    import robustness

    assert sorted(robustness.__all__) == sorted(
        [
            "Attack",
            "AuditConfig",
            "AuditResult",
            "Classifier",
            "RobustnessError",
            "Threat",
            "audit",
            "check_attack",
        ]
    )
    for name in robustness.__all__:
        assert getattr(robustness, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'attak'"):
        _ = robustness.attak


@pytest.mark.slow
def test_the_function_audit_is_never_hidden_by_a_module():
    code = "import robustness.auditing.audit, robustness; assert callable(robustness.audit)"
    assert not run(sys.executable, "-c", code)


MAKERS = {"value_and_grad", "grad", "vjp"}
STEPS = {"gradient", "advance", "apply", "apply_gradients", "stateless_apply"}
LOOKS = {"look", "seen", "gradient_of", "pull", "backward", "train_on_batch"}
SCANS = {"reduce", "accumulate", "scan", "associative_scan", "fori_loop", "while_loop"}


def word(node: ast.AST) -> str:
    return getattr(node, "attr", getattr(node, "id", ""))


def words(*nodes: ast.AST) -> set[str]:
    return {word(n) for node in nodes for n in ast.walk(node)} - {""}


def calls(*nodes: ast.AST) -> list[ast.Call]:
    return [n for node in nodes for n in ast.walk(node) if isinstance(n, ast.Call)]


def called(*nodes: ast.AST) -> set[str]:
    return {word(call.func) for call in calls(*nodes)}


def arguments(call: ast.Call) -> list[ast.AST]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def assignments(*nodes: ast.AST) -> list[tuple[set[str], ast.AST]]:
    """The names that are given a value, and the value."""
    found: list[tuple[set[str], ast.AST]] = []
    for n in (n for node in nodes for n in ast.walk(node)):
        if isinstance(n, ast.Assign):
            found.append((words(*n.targets) - {"self"}, n.value))
        elif isinstance(n, (ast.AugAssign, ast.AnnAssign, ast.NamedExpr)) and n.value:
            found.append((words(n.target) - {"self"}, n.value))
    return found


def differentiating(tree: ast.AST) -> set[str]:
    """The names of functions that take a gradient, those made of others and those that call others too."""
    known, size = MAKERS | STEPS | LOOKS, 0
    while len(known) != size:
        size, functions = len(known), known - {"gradient"}
        for names, value in assignments(tree):
            made = isinstance(value, ast.Call) and (
                word(value.func) in MAKERS
                or (
                    word(value.func) not in known
                    and any(word(a) in functions for a in arguments(value))
                )
                or any(isinstance(a, ast.Call) and word(a.func) in MAKERS for a in arguments(value))
            )
            short = isinstance(value, ast.Lambda) and called(value) & known
            if made or short or (isinstance(value, ast.Name) and value.id in functions):
                known |= names
        for n in ast.walk(tree):
            if isinstance(n, ast.FunctionDef) and called(n) & known:
                known.add(n.name)
    return known


def feeds_back(loop: ast.For | ast.While, known: set[str]) -> bool:
    """Whether what a gradient led to goes into the next gradient: chunks of data do not."""
    parts = [*loop.body, *([loop.test] if isinstance(loop, ast.While) else [])]
    led, size = set[str](), -1
    while len(led) != size:
        size = len(led)
        for names, value in assignments(*parts):
            if called(value) & known or words(value) & led:
                led |= names
    return any(word(call.func) in known and words(*arguments(call)) & led for call in calls(*parts))


def second_loops(source: str) -> list[int]:
    """The lines where a gradient is followed step by step."""
    tree = ast.parse(source)
    known, found = differentiating(tree), []
    methods = {f for n in ast.walk(tree) if isinstance(n, ast.ClassDef) for f in n.body}
    for n in ast.walk(tree):
        if isinstance(n, (ast.For, ast.While)):
            counts = isinstance(n, ast.While) or "range" in called(n.iter)
            if feeds_back(n, known) or words(n) & STEPS or (counts and called(n) & LOOKS):
                found.append(n.lineno)
        elif isinstance(n, ast.Call) and word(n.func) in SCANS:
            if words(*arguments(n)) & (known - {"gradient"}):
                found.append(n.lineno)
        elif isinstance(n, ast.FunctionDef) and n not in methods:
            itself = {call.func.id for call in calls(n) if isinstance(call.func, ast.Name)}
            if n.name in itself and called(n) & (known - {n.name}):
                found.append(n.lineno)
    return found


def test_there_is_one_loop():
    """No `for ... in range(steps)` around gradient calls outside the loop of the project."""
    found = []
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            if path != ROOT / "robustness" / "optimization" / "iterate.py":
                lines = second_loops(path.read_text())
                found += [f"{path.relative_to(ROOT)}:{line}" for line in lines]
    assert not found


MADE = "slope = gradients.compile(gradients.value_and_grad(loss))\n"


@pytest.mark.parametrize(
    "source",
    [
        MADE + "for _ in range(9):\n    _, d = slope(x)\n    x = x - d",
        MADE + "for rate in rates:\n    x -= rate * slope(x)[1]",
        MADE + "while (d := slope(x)[1]).any():\n    x = x - d",
        MADE + "def move(x): return x - slope(x)[1]\nfor _ in repeat(None, 9):\n    x = move(x)",
        MADE + "def down(x, n): return x if n == 0 else down(x - slope(x)[1], n - 1)",
        MADE + "y = reduce(lambda x, rate: x - rate * slope(x)[1], rates, x)",
        "for _ in turns:\n    seen = look(s['x'])\n    s['x'] = s['x'] - seen.gradient",
        "for _ in turns:\n    self.x = self.x - self.gradient_of(self.x)",
        "for _ in turns:\n    with Tape() as t:\n        y = f(x)\n    x -= t.gradient(y, x)",
        "for _ in turns:\n    (x,), m = optimizer.stateless_apply(m, [g(x)], [x])",
    ],
)
def test_a_second_loop_is_found_however_it_is_written(source):
    assert second_loops(source)


@pytest.mark.parametrize(
    "source",
    [
        MADE + "for piece in pieces():\n    more, d = slope(x, *piece)\n    total = total + d",
        "for some in chunks:\n    found.append(look(images[some]))",
        "for power in powers:\n    best = min(best, minimize(loss, start, power))",
    ],
)
def test_adding_up_gradients_of_pieces_is_no_second_loop(source):
    assert not second_loops(source)


def test_a_recipe_is_under_sixty_lines_and_names_its_source():
    recipes = [
        node
        for path in (ROOT / "attacks").glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and any(named(part) for part in node.body)
    ]
    assert len(recipes) >= 30
    for node in recipes:
        assert (node.end_lineno or 0) - node.lineno + 1 < 60, node.name
        if not node.name.endswith(("Noise", "Bisection")):
            assert re.search(r"\d{4}\.\d{4,5}", ast.unparse(node)), node.name


def named(part: ast.AST) -> bool:
    return isinstance(part, ast.AnnAssign) and ast.unparse(part.target) == "name"


@pytest.mark.slow
@pytest.mark.parametrize("room", ROOMS)
def test_the_library_holds_no_assert_and_no_pickle(room):
    for path in (ROOT / room).rglob("*.py"):
        tree = ast.parse(path.read_text())
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree)), path
        assert not re.search(
            r"^\s*(import|from) pickle|allow_pickle=True", path.read_text(), re.M
        ), path


def test_the_changelog_knows_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## Unreleased" in text or "## 0." in text
