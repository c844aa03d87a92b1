"""Measure seconds and memory of reports, of checks and of the start of a resumed run on a large run folder.

    python benchmarks/large_runs.py [--images 50000] [--classes 1000] [--attacks 3] [--epsilons 1,2,4]

A run folder is filled with synthetic rows through the store: nine in ten images are correctly classified, and
seven in ten of these flip, more at larger epsilons. The first `--pictures` images have pictures of 32 x 32.
Every measurement is a process of its own: seconds and peak memory include its start and imports. "rows" reads
all rows and checks them against each other, as `robustness verify` does before it asks the model; "resume"
repairs the run and finds what is left to do, as `--resume` does before the first image.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from robustness.images.entries import Entry
    from robustness.runs.plan import Plan
    from robustness.runs.records import Row
    from robustness.runs.store import Run

REPORTS = ("html", "json", "csv", "parquet", "markdown", "junit", "sarif", "github", "pdf")
MEASURED = (*REPORTS, "compare", "compare --html", "rows", "resume")
RIGHT, FLIPS = 0.9, 0.7
CHUNK = 10_000
SHAPE = (32, 32, 3)


def settings(options: argparse.Namespace) -> tuple[Plan, list[Entry]]:
    """The plan of the run, and its entries."""
    from robustness.attacks import APGD, BIM, PGD
    from robustness.images.entries import Entry
    from robustness.runs.plan import Plan
    from robustness.threat.threat import Threat

    attacks = (PGD(steps=20), BIM(steps=10), APGD(steps=20))[: options.attacks]
    epsilons = tuple(float(e) for e in options.epsilons.split(","))
    plan = Plan(attacks, Threat(epsilons), 0, 48, all_steps=False, evidence=str(options.pictures))
    labels = np.random.default_rng(0).integers(0, options.classes, options.images)
    entries = [
        Entry(f"validation/{n:08d}.jpg", f"{n:08d}.jpg", int(y)) for n, y in enumerate(labels)
    ]
    return plan, entries


def fill(folder: Path, options: argparse.Namespace) -> None:
    """Write a finished run of synthetic rows."""
    from robustness.runs.manifest import now
    from robustness.runs.schema import Data, Manifest, ModelEntry, Timing
    from robustness.runs.store import Run

    plan, entries = settings(options)
    names = tuple(f"class {n:04d}" for n in range(options.classes))
    size = len(entries)
    model = ModelEntry(name="synthetic", weights_sha256="0" * 64, input_shape=SHAPE)
    manifest = Manifest(
        created=now(), config=plan.config(names), model=model, class_names=names,
        budgets=tuple(plan.budgets(SHAPE)), timing=Timing(seconds=1.0),
        data=Data(description=f"{size:,} synthetic rows", selected=size, available=size, seed=0),
    )  # fmt: skip
    with Run.create(folder, manifest) as run:
        rows = synthetic_rows(run, plan, entries, options)
        for chunk in rows:
            run.add(chunk)
        digest = run.data_digest()
        run.write_manifest(
            manifest.with_changes(finished=now(), data=manifest.data.with_changes(sha256=digest))
        )


def synthetic_rows(
    run: Run, plan: Plan, entries: Sequence[Entry], options: argparse.Namespace
) -> Iterator[list[Row]]:
    """Rows of images and outcomes, in chunks."""
    from robustness.images.png import to_png
    from robustness.runs.records import ImageRow, OutcomeRow, StripRow

    random = np.random.default_rng(options.seed)
    epsilons = plan.threat.epsilons
    rows: list[Row] = []
    for position, entry in enumerate(entries):
        right = random.random() < RIGHT
        label = entry.label or 0
        other = int(label + 1 + random.integers(options.classes - 1)) % options.classes
        sure = float(random.random())
        kept = right and plan.keeps(position)
        pixels = random.integers(0, 256, SHAPE).astype(np.uint8) if kept else None
        original = None if pixels is None else run.save_png(to_png(pixels))
        rows.append(
            ImageRow(
                key=entry.key,
                position=position,
                name=entry.name,
                label=entry.label,
                digest=hashlib.sha256(entry.key.encode()).hexdigest(),
                clean_class=entry.label if right else other,
                confidence=sure,
                png=original,
            )
        )
        for number, attack in enumerate(plan.attacks):
            hardness = random.random()
            for epsilon in epsilons:
                flips = right and hardness < FLIPS ** (epsilons[0] / epsilon)
                row: dict[str, Any] = {
                    "image": entry.key,
                    "attack": attack.label,
                    "epsilon": epsilon,
                }
                row |= {"confidence_before": sure, "forward": 12, "backward": 10}
                if not flips:
                    status = "robust" if right else "misclassified"
                    rows.append(OutcomeRow(**row, status=status))
                    continue
                png = None
                if pixels is not None:
                    changed = pixels ^ np.uint8(1 + number + 4 * epsilons.index(epsilon))
                    png = run.save_png(to_png(changed))
                rows.append(
                    OutcomeRow(
                        **row,
                        status="flipped",
                        adversarial_class=other,
                        step=3,
                        restart=0,
                        confidence_after=float(random.random()),
                        l0=1024,
                        components=3072,
                        l1=3072.0 * epsilon,
                        l2=55.4 * epsilon,
                        linf=epsilon,
                        png=png,
                    )
                )
                if png is not None and epsilon == epsilons[0] and number == 0:
                    shares = random.dirichlet(np.ones(options.classes))
                    text = f"[{', '.join(f'{p:.6f}' for p in shares)}]"
                    steps: dict[str, Any] = {
                        "image": entry.key,
                        "attack": attack.label,
                        "epsilon": epsilon,
                    }
                    rows.append(StripRow(**steps, step=3, png=png, probabilities=text))
        if len(rows) >= CHUNK:
            yield rows
            rows = []
    yield rows


def checked(folder: Path) -> str:
    """Check the rows of the run, as `robustness verify` does without a picture or the model."""
    from robustness.runs.store import Run
    from robustness.verification.rows import RunContents, check_rows

    with Run.open(folder) as run:
        faults = sum(1 for _ in check_rows(RunContents.of(run)))
    return f"{faults} faults"


def resumed(folder: Path, options: argparse.Namespace) -> str:
    """Repair the run and find what is left to do; processor seconds without imports and entries."""
    from robustness.auditing.remaining import remaining
    from robustness.images.arrays import from_arrays
    from robustness.images.cache import PictureCache
    from robustness.runs.repair import mend
    from robustness.runs.smallest_epsilon import medians
    from robustness.runs.store import Run

    plan, entries = settings(options)
    cache = PictureCache(from_arrays(np.zeros((1, *SHAPE), np.uint8)))
    began = time.process_time()
    with Run.resume(folder) as run:
        opened = time.process_time()
        mended = mend(run, plan, cache, entries, SHAPE, classes=options.classes)
        repaired = time.process_time()
        left = len(entries) - run.image_count()
        for attack in plan.attacks:
            run.first_flips(plan.before(attack))
            found = remaining(run, attack.label, len(plan.threat.epsilons), {})
            left += len(found.spared) + len(found.to_attack)
        ended = time.process_time()
        names = ("image", "attack", "epsilon", "status", plan.threat.norm.column)
        medians(
            run.columns_of("outcomes", *names), run.manifest.config, [a.label for a in plan.attacks]
        )
        run.data_digest()
    closed = time.process_time()
    return (
        f"open {opened - began:.1f} s, repair {repaired - opened:.1f} s, what is left "
        f"{ended - repaired:.1f} s, medians and digest {closed - ended:.1f} s; damaged: {bool(mended)}; "
        f"left: {left}"
    )


def command_of(what: str, run: Path, other: Path, out: Path) -> list[str] | None:
    """The arguments of `robustness` that do this; None for what is measured by this script."""
    if what in REPORTS:
        return ["report", str(run), "--kind", what, "--out", str(out / f"report.{what}")]
    if what.startswith("compare"):
        page = ["--html", str(out / "compare.html")] * what.endswith("--html")
        return ["compare", str(run), str(other), *page]
    return None


def measured(words: list[str]) -> tuple[float, float, float, str, int]:
    """Wall-clock seconds, processor seconds, peak MB, output and exit code of a process."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        said.seek(0)
        text = said.read()
    cpu = usage.ru_utime + usage.ru_stime
    return seconds, cpu, usage.ru_maxrss / 1024, text.strip(), process.returncode


def megabytes(folder: Path) -> float:
    """The size of a file, or of all files of a folder, in MB."""
    files = [folder] if folder.is_file() else [f for f in folder.rglob("*") if f.is_file()]
    return sum(f.stat().st_size for f in files) / 1e6


def main() -> None:
    """Print a row for each measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--attacks", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epsilons", default="1,2,4")
    parser.add_argument(
        "--what", default=",".join(MEASURED), help="what is measured, of %(default)s"
    )
    parser.add_argument("--folder", type=Path, help="where the runs are kept; reused if they exist")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        folder = Path(options.folder)
        doing = {
            "fill": lambda: fill(folder, options),
            "rows": lambda: checked(folder),
            "resume": lambda: resumed(folder, options),
        }
        print(doing[options.worker]() or "")
        return
    with tempfile.TemporaryDirectory() as temporary:
        home = options.folder or Path(temporary)
        run, other, out = home / "run", home / "other", home / "reports"
        out.mkdir(parents=True, exist_ok=True)
        numbers = ("images", "classes", "attacks", "pictures")
        given = [a for name in numbers for a in (f"--{name}", str(getattr(options, name)))]
        given += ["--epsilons", options.epsilons]

        def worker(what: str, folder: Path, seed: int) -> list[str]:
            own = ["--worker", what, "--folder", str(folder), "--seed", str(seed)]
            return [sys.executable, __file__, *given, *own]

        print("| what | s | processor s | peak MB | file MB | |\n|---|---|---|---|---|---|")
        for folder, seed in ((run, 0), (other, 1)):
            needed = folder is run or any(w.startswith("compare") for w in options.what.split(","))
            if needed and not folder.exists():
                seconds, cpu, peak, said, exit_code = measured(worker("fill", folder, seed))
                if exit_code:
                    raise SystemExit(said)
                size = f"{megabytes(folder):.1f}"
                print(f"| fill | {seconds:.1f} | {cpu:.1f} | {peak:.0f} | {size} | |", flush=True)
        for what in options.what.split(","):
            target = out / ("compare.html" if what == "compare --html" else f"report.{what}")
            command = command_of(what, run, other, out)
            if command is None:
                words = worker(what, run, 0)
            else:
                code = "from robustness.cli import main; main()"
                words = [sys.executable, "-c", code, *command]
            seconds, cpu, peak, said, exit_code = measured(words)
            size = f"{megabytes(target):.1f}" if target.exists() else ""
            note = f"exit code {exit_code}: {said[-300:]}" if exit_code else ""
            note = note or (said.splitlines()[-1] if command is None and said else "")
            print(
                f"| {what} | {seconds:.1f} | {cpu:.1f} | {peak:.0f} | {size} | {note} |", flush=True
            )


if __name__ == "__main__":
    main()
