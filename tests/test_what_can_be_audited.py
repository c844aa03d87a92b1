"""Every claim of docs/what-can-be-audited.md names tests that exist, and nothing that is read is left out."""

from __future__ import annotations

import ast
import re
import runpy
from functools import cache
from pathlib import Path

import pytest
import typer.main

from robustness.cli import app
from robustness.configuration import choices
from robustness.models.formats import file_kind
from robustness.models.suffixes import MODEL_SUFFIXES
from tests.robustness.models.legacy.test_old_files import FILES
from tests.robustness.models.test_formats import KINDS

ROOT = Path(__file__).parents[1]
script = runpy.run_path(str(ROOT / "scripts" / "write_what_can_be_audited.py"))
CLAIMS = [claim for claims in script["GROUPS"].values() for claim in claims]
TESTS = sorted({test for claim in CLAIMS for test in claim.tests})


@cache
def functions(path: str) -> set[str]:
    """The names of the tests in a file."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_page_is_written_by_the_script():
    assert script["PAGE"].read_text("utf-8") == script["page"]()


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.what)
def test_a_claim_has_a_test(claim):
    assert claim.tests


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.rpartition("::")[2])
def test_a_named_test_exists(test):
    path, _, function = test.partition("::")
    name, _, parameter = function.removesuffix("]").partition("[")
    assert name in functions(path)
    assert not parameter or parameter in {file.name for file in FILES}


def test_every_old_file_and_every_head_is_claimed():
    named = {test.partition("[")[2].removesuffix("]") for test in TESTS if "[" in test}
    assert named == {file.name for file in FILES}
    outputs = " ".join(claim.what for claim in script["OUTPUTS"])
    assert all(f"`{head}`" in outputs for head in choices.HEADS)


def test_every_suffix_is_claimed():
    what = " ".join(claim.what for claim in script["FILES"])
    assert all(f"`{suffix}`" in what for suffix in MODEL_SUFFIXES)


def test_every_kind_that_the_page_refuses_has_a_file_in_the_tests():
    tested = {kind.words for content, _ in KINDS.values() if (kind := file_kind(content))}
    assert tested == {one.words for one in script["REFUSED"]}


def test_what_needs_an_option_names_one_that_exists():
    params = typer.main.get_group(app).commands["audit"].params
    known = {option for param in params for option in param.opts}
    for claim in CLAIMS:
        options = set(re.findall(r"--[a-z-]+", claim.how))
        assert options <= known, claim.what
        if claim.status == "with an option":
            assert options or "extra" in claim.how, claim.what
