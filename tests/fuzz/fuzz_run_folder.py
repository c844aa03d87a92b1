"""Fuzz the readers of run folders with damaged `run.json` and `run.sqlite` files.

Mutates a valid run and reads it in every way that needs no model. Only success or one of the toolkit's own
errors is allowed. `tests/robustness/runs/test_fuzzed_runs.py` does this for a few hundred runs. Started by
hand, for an hour::

    python tests/fuzz/fuzz_run_folder.py --seconds 3600            # seeds 0, 1, 2, ...
    python tests/fuzz/fuzz_run_folder.py --atheris -max_total_time=3600   # guided; pip install atheris
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import shutil
import sqlite3
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from robustness.errors import RobustnessError
from tests.reports.folder import OUTCOMES, STRIPS, Folder, manifest

ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 3, 2**31, 2**53, -(2**63), 2**63 - 1, 2**64, 10**400),
    *(0.5, -0.0, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf")),
    *("", " ", "x", "0", "-1", "1e999", "nan", "²", "\ud800", "\0", "\u202e", "/etc/passwd"),
    *("../../x", "solid", "flipped", "targeted at cat", "linf", "a" * 5000, "{{7*7}}", "<b>"),
    *([], {}, [[]], [None], [0], ["x"], [1, 2, 3], [[1, 2]], {"x": 1}, {"": None}, {"name": {}}),
    *([0] * 1000, {str(n): n for n in range(300)}, "2026-13-45", "0001-01-01T00:00:00+23:00"),
]
"""Replacements for a part of `run.json`."""
CELLS: list[Any] = [
    *(None, 0, -1, 1, 2, 2**31, 2**53 + 1, -(2**63), 2**63 - 1, 0.5, 1e308, float("inf")),
    *("", "x", "0", "solid", "flipped", "settled", "failed", "images/../run.json", "/etc/passwd"),
    *(b"", b"\xff", b"x" * 100, "nan", "\0", "[1, 2]", "[]", "[NaN]", "[[", '{"a": 1}', "[1e999]"),
    *("[" * 2000, "a" * 100_000, "9" * 5000, "[" + "9" * 5000 + "]", "\u202e"),
]
"""Replacements for a cell."""


MOST_COPIED = 50 << 20
"""Largest size in bytes of a run that is copied and resumed."""


def sound(folder: Path) -> Path:
    """A valid run with every part that `run.json` and the tables can have."""
    import numpy as np

    made = Folder(folder)
    rng = np.random.default_rng(1)
    for number in range(3):
        before, after = made.flip(f"cats/{number}.jpg", rng=rng, confidence_after=0.7)
        for step, pixels in enumerate((before, after)):
            made.strip(f"cats/{number}.jpg", step, made.picture(pixels), [1 - step, step])
    for status in ("robust", "misclassified", "failed", "unreadable", "settled"):
        lost = status == "unreadable"
        wrong: dict[str, Any] = (
            {"clean_class": None, "confidence": None, "reason": "torn"} if lost else {}
        )
        wrong |= {"label": 1} if status == "misclassified" else {}
        made.image(f"dogs/{status}.jpg", **wrong)
        made.outcome(f"dogs/{status}.jpg", status, reason="torn" if status == "failed" else "")
    made.manifest = full_manifest()
    return made.write()


def full_manifest() -> dict[str, Any]:
    """A manifest with every part that a reader uses."""
    whole = manifest()
    whole["config"] |= {"mask": {"sha256": "ab" * 32, "share": 0.5}, "surrogate": "cd" * 32}
    whole["config"] |= {"precision": "bfloat16", "cascade": True, "replaced": ["x by y"]}
    whole["model"] |= {"findings": ["f"], "notes": ["n"]}
    whole["model"]["scaling"] |= {"multiply": [1.0], "offset": [0.0], "order": "rgb"}
    whole["surrogate"] = copy.deepcopy(whole["model"])
    whole["diagnostics"] = [
        {"id": f"D0{n}", "title": "t", "status": s, "sentence": "s", "evidence": {"x": 1.5}}
        for n, s in enumerate(("ok", "warn", "fail", "skipped"))
    ]
    whole["median_epsilon"] = {"bim(steps=4)": {"median": 1.5, "low": 1.0, "high": 2.5, "note": ""}}
    rule = {"name": "floor", "metric": "robust_accuracy", "threshold": 0.3, "scope": "worst"}
    base: dict[str, Any] = {
        "source": "r",
        "data_sha256": "ef" * 32,
        "norm": "linf",
        "goal": "untargeted",
    }
    base |= {"attacks": ["bim(steps=4)"], "worst": [[4.0, 1, 2]], "max_drop": 0.0}
    held_back = {"rule": "D02", "reason": "r", "expires": "2027-01-01"}
    whole["gate"] = {
        "rules": [rule | {"of": None, "epsilon": 4.0, "bound": "lower"}],
        "suppressions": [held_back],
        "baseline": base,
    }
    options: dict[str, Any] = {
        "model": "pets.keras",
        "images": "photos",
        "attack": ["bim:steps=4"],
        "epsilon": "4",
    }
    options |= {"norm": "linf", "seed": 0, "report": ["html"], "gate": copy.deepcopy(whole["gate"])}
    whole["origin"] = {"options": options, "configuration": "audit.toml", "seal": "00" * 32}
    whole["notes"] = ["a note"]
    whole["config"]["draws"] = 2
    whole["budgets"] = [
        {"epsilon": e, "effective_epsilon": e, "reached": e < 4, "short": {"bim(steps=4)": 3.0}}
        for e in (1.0, 2.0, 4.0)
    ]
    return whole


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every element of a JSON value, the root included."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def altered(whole: Any, path: tuple[Any, ...], odd: Any, *, gone: bool = False) -> Any:
    """A copy of `whole` with the element at a path replaced or removed."""
    if not path:
        return odd
    made = copy.deepcopy(whole)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    if gone:
        del inner[path[-1]]
    else:
        inner[path[-1]] = odd
    return made


def break_manifest(folder: Path, dice: random.Random) -> str:
    """Damage `run.json`; return a description."""
    file = folder / "run.json"
    whole = full_manifest()
    said = []
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        every = list(places(whole))
        path = dice.choice(every[1:] if dice.random() < 0.98 else every)
        gone, odd = bool(path) and dice.random() < 0.15, dice.choice(ODD)
        whole = altered(whole, path, odd, gone=gone)
        said.append(f"{path}: {'gone' if gone else repr(odd)[:60]}")
        if not isinstance(whole, dict):
            break
    text = json.dumps(whole)
    if dice.random() < 0.1:
        cut = dice.randrange(len(text))
        extra = dice.choice(("", "[" * 100_000, "\0", "}" * 9, '"', "\ufeff", "é"))
        text, note = text[:cut] + extra + text[cut + 1 :], f"cut at {cut}"
        said.append(note)
    file.write_bytes(text.encode("utf-8", "replace"))
    return "; ".join(said)


def break_database(folder: Path, dice: random.Random) -> str:
    """Damage the tables; return a description."""
    tables = {
        "images": "key position name label digest note reason clean_class confidence png",
        "outcomes": OUTCOMES,
        "strips": STRIPS,
    }
    database = sqlite3.connect(folder / "run.sqlite")
    said = []
    for _ in range(dice.choice((1, 1, 2, 5))):
        table = dice.choice(list(tables))
        column, odd = dice.choice(tables[table].split()), dice.choice(CELLS)
        rows = database.execute(f"SELECT rowid FROM {table}").fetchall()
        if not rows:
            continue
        where = "" if dice.random() < 0.2 else f" WHERE rowid = {dice.choice(rows)[0]}"
        if dice.random() < 0.1:
            database.execute(f"DELETE FROM {table}{where}")
            said.append(f"rows of {table} gone")
        else:
            database.execute(f"UPDATE {table} SET {column} = ?{where}", (odd,))
            said.append(f"{table}.{column}{where}: {odd!r:.60}")
    database.commit()
    database.close()
    if dice.random() < 0.1:
        file = folder / "run.sqlite"
        data = bytearray(file.read_bytes())
        for _ in range(dice.choice((1, 20, 400))):
            data[dice.randrange(len(data))] = dice.randrange(256)
        file.write_bytes(data)
        said.append("bytes of the file changed")
    return "; ".join(said)


class ConstantClassifier:
    """A classifier for verification that always predicts the first class, for pictures of the run's size."""

    input_shape = (16, 16, 3)
    class_names = ("cat", "dog")
    digest = "cd" * 32

    def card(self) -> dict[str, Any]:
        return {"weights_sha256": self.digest, "input_shape": [16, 16, 3]}

    def probabilities(self, images: Any) -> Any:
        import numpy as np

        return np.tile(np.array([0.75, 0.25], np.float32), (len(images), 1))

    def probabilities_of_files(self, files: Any) -> Any:
        return self.probabilities(files)


def readings(folder: Path, good: Path) -> dict[str, Any]:
    """All functions that read a run without a framework, by name."""
    from robustness.cli import recorded_files
    from robustness.cli.rerun import _manifest
    from robustness.reports import write_html
    from robustness.reports.comparison.compare import compare
    from robustness.reports.formats import writers
    from robustness.reports.gate.gate_file import baseline
    from robustness.runs.result import AuditResult
    from robustness.runs.store import Run
    from robustness.verification.pictures import broken_files

    out = folder.parent / "out"

    def opened(read: Any) -> Any:
        def do() -> None:
            with Run.open(folder) as run:
                read(run)

        return do

    def shown() -> None:
        result = AuditResult(folder)
        result.to_frame()
        repr(result)
        result._repr_html_()
        [case.caption for case in result.cases]

    def resumed() -> None:
        Run.open(folder).close()
        # Resuming writes, so use a copy; copying a sparse file would fill the disk.
        found = [p.lstat() for p in folder.rglob("*")]
        plain = all(stat.S_ISREG(one.st_mode) or stat.S_ISDIR(one.st_mode) for one in found)
        if not plain or sum(one.st_size for one in found) > MOST_COPIED:
            return
        with Run.resume(shutil.copytree(folder, folder.parent / "resumed")) as run:
            run.images(), list(run.image_rows()), run.settled("bim(steps=4)", 1), run.count()
            run.first_flips(["bim(steps=4)"])
            recorded_files.options_of(run.manifest.origin, folder, {}, trust=False)

    kinds = {
        name: getattr(writers, f"write_{name}")
        for name in ("json", "csv", "parquet", "markdown", "junit", "sarif", "github")
    } | {"html": write_html}
    return {
        **{f"report {kind}": lambda w=write: w(folder, out) for kind, write in kinds.items()},
        "compare": lambda: compare(good, folder),
        "baseline": lambda: baseline(folder),
        "evidence": opened(broken_files),
        "rerun": lambda: recorded_files.options_of(
            _manifest(folder).origin, folder, {}, trust=False
        ),
        "result": shown,
        "resume": resumed,
    }


def verified(folder: Path) -> None:
    """Verify the run with a `ConstantClassifier`; needs Keras."""
    from robustness.runs.store import Run
    from robustness.verification.verify import verify

    with Run.open(folder) as run:
        verify(run, ConstantClassifier())


def faults(folder: Path, good: Path, *, verify: bool = False) -> list[str]:
    """Tracebacks of all readings that raised anything but the toolkit's own errors."""
    found = []
    every = readings(folder, good)
    every |= {"verify": lambda: verified(folder)} if verify else {}
    for name, read in every.items():
        try:
            read()
        except RobustnessError as error:
            if not str(error) or "\n" in str(error).strip():
                found.append(f"{name}: no sentence: {error!r}")
        except Exception:
            found.append(f"{name}: {traceback.format_exc()}")
    return found


def one(seed: int | bytes, good: Path, *, verify: bool = False) -> tuple[str, list[str]]:
    """Damage a copy of `good` and read it; return the description of the damage and the faults."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="fuzz-run-") as place:
        folder = Path(place) / "run"
        shutil.copytree(good, folder)
        done = [how(folder, dice) for how in dice.choice(WAYS)]
        return "; ".join(done), faults(folder, good, verify=verify)


WAYS = ((break_manifest,), (break_manifest,), (break_database,), (break_manifest, break_database))


def main() -> int:
    """Fuzz until the time is over, or with atheris."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--first", type=int, default=0, help="The first seed.")
    parser.add_argument(
        "--verify", action="store_true", help="Also verify the runs; imports Keras."
    )
    parser.add_argument(
        "--atheris", action="store_true", help="Coverage-guided fuzzing with atheris."
    )
    options, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-good-") as place:
        good = sound(Path(place) / "good")
        if options.atheris:
            return guided(good, rest)
        seed, wrong, end = options.first, 0, time.monotonic() + options.seconds
        while time.monotonic() < end:
            done, found = one(seed, good, verify=options.verify)
            for text in found:
                wrong += 1
                print(f"--- seed {seed}: {done}\n{text}")
            seed += 1
        print(f"{seed - options.first} runs, {wrong} faults")
    return bool(wrong)


def guided(good: Path, rest: list[str]) -> int:
    """Fuzz with atheris; `rest` are arguments of libFuzzer."""
    import atheris

    with atheris.instrument_imports(include=["robustness", "reports"]):
        readings(good, good)

    def test(data: bytes) -> None:
        done, found = one(data, good)
        if found:
            raise RuntimeError(f"{done}\n{found[0]}")

    atheris.Setup([sys.argv[0], *rest], test)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
