"""Tests of what an installation needs: declared dependencies, extras, docs/installation.md."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("robustness", "attacks", "reports", "model_zoo")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
OPTIONAL = {
    "kagglesdk": {"model_zoo/kaggle/client.py", "model_zoo/kaggle/source.py"},
    "IPython": {"robustness/runs/notebook.py", "robustness/runs/result_html.py"},
    "jax": {"robustness/backend/_jax.py"},
    "torch": {"robustness/backend/_torch.py", "robustness/pipeline/conventions/torchvision.py"},
    "torchvision": {"robustness/pipeline/conventions/torchvision.py"},
    "cv2": {"robustness/pipeline/conventions/opencv.py", "robustness/pipeline/decoders.py"},
    "pytest": {"robustness/testing/contract_checks.py"},
    "tf_keras": {"robustness/models/old_keras/worker.py"},
    "yaml": {"robustness/models/architecture.py"},
    "ray": {"robustness/auditing/cluster/pool.py"},
    "pyarrow": {
        "reports/formats/parquet.py",
        "robustness/images/parquet.py",
        "robustness/images/parquet_columns.py",
    },
    "fsspec": {"robustness/files/remote/stores.py"},
    "s3fs": {"robustness/files/remote/stores.py"},
}
"""Modules that an installation may lack, and the only files that may import them."""
BROUGHT = {"markupsafe": "jinja2", "pydantic_core": "pydantic"}
"""Modules of packages that a declared dependency is built on, and that dependency."""
script = runpy.run_path(str(ROOT / "scripts" / "write_installation_docs.py"))


def declared() -> set[str]:
    return {re.split(r"[\[<>=~! ]", text)[0].lower() for text in PROJECT["dependencies"]}


def foreign_imports() -> dict[str, set[str]]:
    """The top-level modules of other packages that the toolkit imports, with the files that do."""
    found: dict[str, set[str]] = {}
    for path in (p for folder in PACKAGES for p in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [node.module]
            for module in modules:
                top = module.partition(".")[0]
                if top != "robustness" and top not in sys.stdlib_module_names:
                    found.setdefault(top, set()).add(path.relative_to(ROOT).as_posix())
    return found


@pytest.mark.slow
def test_every_imported_package_is_declared():
    """Nothing relies on a package that only an extra, such as kaggle, would bring."""
    names = packages_distributions()
    imports = foreign_imports()
    assert {"keras", "requests", "urllib3", "optree", "kagglesdk"} <= set(imports)
    for module, files in imports.items():
        if module in OPTIONAL:
            assert files <= OPTIONAL[module], module
        else:
            wanted = {name.lower() for name in names.get(module, [module])}
            wanted |= {BROUGHT[module]} if module in BROUGHT else set()
            assert wanted & declared(), (module, files)


def test_kaggle_is_an_extra_that_the_tests_have():
    extras = PROJECT["optional-dependencies"]
    assert "kaggle" not in declared()
    assert any(text.startswith("kaggle") for text in extras["kaggle"])
    assert set(extras["kaggle"]) <= set(extras["test"])


@pytest.mark.slow
def test_the_command_line_needs_no_kaggle_package():
    code = (
        "import sys; sys.modules['kagglesdk'] = sys.modules['kaggle'] = None\n"
        "sys.argv = ['robustness', 'fetch', 'kaggle:owner/notebook']\n"
        "from robustness.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "pip install 'robustness-toolkit[kaggle]'" in done.stderr


def rows(page: str) -> list[list[str]]:
    """The rows of the tables with four columns that the script writes."""
    found = re.findall(r"^\| (\S+) \| (\S+) \| ([\d,]+\.\d) \| (.+?) \|$", page, re.MULTILINE)
    return [list(row) for row in found]


def test_the_page_lists_every_declared_package_with_a_licence():
    page = (ROOT / "docs" / "installation.md").read_text("utf-8")
    base = rows(page.partition("## Extras")[0])
    assert {name.lower() for name, *_ in base} >= declared() | {"robustness-toolkit"}
    assert "kaggle" not in {name.lower() for name, *_ in base}
    assert {"kaggle", "kagglesdk", "pyarrow"} <= {name.lower() for name, *_ in rows(page)}
    (summary,) = re.findall(r"^(\d+) packages, ([\d,]+) MB on disk", page, re.MULTILINE)
    assert int(summary[0]) == len(base)
    stated = float(summary[1].replace(",", ""))
    assert stated == pytest.approx(sum(float(size) for *_, size, _ in base), abs=len(base) / 10)
    for extra in PROJECT["optional-dependencies"]:
        assert f"| `{extra}` |" in page, extra


def test_the_script_reads_this_environment():
    installed = script["by_name"](next(p for p in sys.path if p.endswith("site-packages")))
    for folder in (p for p in sys.path if Path(p).is_dir()):
        installed = script["by_name"](folder) | installed
    base = script["required"](installed, "keras")
    assert {"keras", "numpy", "h5py", "rich", "pygments"} <= base
    assert "pytest" not in base
    found = script["packages"](installed, base)
    assert all(one.size > 0 and one.licence and one.version for one in found)
    assert script["table"](found).count("\n") == len(found) + 1


def test_parts_are_filled_between_their_markers():
    page = "a\n<!-- one -->\nold\n<!-- end -->\nb\n<!-- two -->\n<!-- end -->\nc"
    filled = script["filled"](page, {"one": "1", "two": "2"})
    assert filled == "a\n<!-- one -->\n1\n<!-- end -->\nb\n<!-- two -->\n2\n<!-- end -->\nc"
    assert script["filled"](filled, {"one": "1", "two": "2"}) == filled
