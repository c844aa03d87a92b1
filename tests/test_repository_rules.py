"""Tests of repository rules: format, lint, types, layers, public names, a single optimisation loop."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP_FOLDERS = ("robustness", "attacks", "model_zoo", "reports")


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def tool(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def test_code_is_formatted_and_passes_lint():
    assert not run(tool("ruff"), "format", "--check", "--quiet", ".")
    assert not run(tool("ruff"), "check", "--quiet", ".")


def test_imports_respect_the_layers():
    assert not run(tool("lint-imports"), "--no-cache")


@pytest.mark.slow
def test_types_check():
    assert not run(tool("mypy"))


def test_public_names_are_the_documented_ones():
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
            "merge",
            "plan",
            "verify",
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
    """Each assignment: the assigned names, and the value."""
    found: list[tuple[set[str], ast.AST]] = []
    for n in (n for node in nodes for n in ast.walk(node)):
        if isinstance(n, ast.Assign):
            found.append((words(*n.targets) - {"self"}, n.value))
        elif isinstance(n, (ast.AugAssign, ast.AnnAssign, ast.NamedExpr)) and n.value:
            found.append((words(n.target) - {"self"}, n.value))
    return found


def differentiating(tree: ast.AST) -> set[str]:
    """The names of functions that take a gradient, directly or through functions they wrap or call."""
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
    """Whether a result of a gradient enters the next gradient; sums over chunks of data do not count."""
    parts = [*loop.body, *([loop.test] if isinstance(loop, ast.While) else [])]
    led, size = set[str](), -1
    while len(led) != size:
        size = len(led)
        for names, value in assignments(*parts):
            if called(value) & known or words(value) & led:
                led |= names
    return any(word(call.func) in known and words(*arguments(call)) & led for call in calls(*parts))


def second_loops(source: str) -> list[int]:
    """The lines of loops that follow a gradient step by step."""
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


@pytest.mark.slow
def test_gradients_are_iterated_only_in_optimization_iterate():
    """No loop around gradient calls outside `robustness/optimization/iterate.py`."""
    found = []
    for top_folder in TOP_FOLDERS:
        for path in (ROOT / top_folder).rglob("*.py"):
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
def test_second_loops_are_detected_in_any_form(source):
    assert second_loops(source)


@pytest.mark.parametrize(
    "source",
    [
        MADE + "for piece in pieces():\n    more, d = slope(x, *piece)\n    total = total + d",
        "for some in chunks:\n    found.append(look(images[some]))",
        "for power in powers:\n    best = min(best, minimize(loss, start, power))",
    ],
)
def test_sums_of_gradients_over_chunks_are_not_second_loops(source):
    assert not second_loops(source)


def test_an_attack_has_under_sixty_lines_of_code_and_cites_its_source():
    recipes = [
        node
        for path in (ROOT / "attacks").glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and any(named(part) for part in node.body)
    ]
    assert len(recipes) >= 30
    for node in recipes:
        documentation = node.body[0]
        lines = {*range(node.lineno, (node.end_lineno or 0) + 1)}
        lines -= {*range(documentation.lineno, (documentation.end_lineno or 0) + 1)}
        assert len(lines) < 60, node.name
        if not node.name.endswith(("Noise", "Bisection")):
            assert re.search(r"\d{4}\.\d{4,5}", ast.unparse(node)), node.name


def named(part: ast.AST) -> bool:
    return isinstance(part, ast.AnnAssign) and ast.unparse(part.target) == "name"


@pytest.mark.slow
@pytest.mark.parametrize("top_folder", TOP_FOLDERS)
def test_packages_contain_no_assert_and_no_pickle(top_folder):
    for path in (ROOT / top_folder).rglob("*.py"):
        tree = ast.parse(path.read_text())
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree)), path
        assert not re.search(
            r"^\s*(import|from) pickle|allow_pickle=True", path.read_text(), re.M
        ), path


def test_no_text_shortens_an_epsilon():
    """`:g` writes 1,250,000.5 as 1.25e+06: another budget than was audited, and no name of it."""
    short = re.compile(r"\{(?:[\w.]*epsilon|e):g\}")
    files = (file for folder in TOP_FOLDERS for file in (ROOT / folder).rglob("*.py"))
    assert not [str(file) for file in files if short.search(file.read_text("utf-8"))]


def test_the_changelog_has_an_entry():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## Unreleased" in text or "## 0." in text


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a clone")
def test_only_published_weights_are_large():
    """Nothing that a download left behind is committed."""
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = [name for name in done.stdout.split("\0") if name]
    assert not [name for name in names if name.endswith(".whl")]
    large = {
        name for name in names if (ROOT / name).is_file() and (ROOT / name).stat().st_size > 1 << 20
    }
    weights = "model_zoo/dogs_vs_cats/weights"
    assert large == {f"{weights}/dogs-vs-cats.npz", f"{weights}/robust/dogs-vs-cats-robust.npz"}
