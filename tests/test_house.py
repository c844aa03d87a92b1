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


def test_the_function_audit_is_never_hidden_by_a_module():
    code = "import robustness.auditing, robustness; assert callable(robustness.audit)"
    assert not run(sys.executable, "-c", code)


def gradient_calls(node: ast.AST) -> bool:
    """Attributes that step or differentiate, and looks in a loop that counts."""
    steps = ("gradient", "value_and_grad", "advance", "apply_gradients", "apply")
    looks = ("look", "seen", "gradient_of", "pull")
    called = [n.func for n in ast.walk(node) if isinstance(n, ast.Call)]
    names = {getattr(f, "attr", getattr(f, "id", "")) for f in called}
    counts = isinstance(node, ast.While) or "range" in ast.dump(node.iter)
    return any(isinstance(n, ast.Attribute) and n.attr in steps for n in ast.walk(node)) or (
        counts and bool(names & set(looks))
    )


def test_there_is_one_loop():
    """No `for ... in range(steps)` around gradient calls outside the loop of the project."""
    found = []
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            if path.name == "iterate.py":
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, (ast.For, ast.While)) and gradient_calls(node):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found


def test_a_recipe_is_under_sixty_lines_and_names_its_source():
    recipes = [
        node
        for path in (ROOT / "attacks").glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and any(named(part) for part in node.body)
    ]
    assert len(recipes) >= 30
    for node in recipes:
        assert node.end_lineno - node.lineno + 1 < 60, node.name
        if not node.name.endswith(("Noise", "Bisection")):
            assert re.search(r"\d{4}\.\d{4,5}", ast.unparse(node)), node.name


def named(part: ast.AST) -> bool:
    return isinstance(part, ast.AnnAssign) and ast.unparse(part.target) == "name"


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
