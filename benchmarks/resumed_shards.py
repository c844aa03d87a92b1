"""Measure how fast a resumed run attacks its first image: a million pictures in tar shards on an S3 server.

    python benchmarks/resumed_shards.py --folder FOLDER [--images 1000192] [--shards 256] [--rounds 5]

The pictures are 32 x 32 PNG, the model is a small network, the server is that of the tests on this machine.
An audit is killed with -9 in its clean pass. The rows of the clean pass, and outcomes and pictures of one
image of eight, are then written through the store, since the whole audit takes half an hour. Each round
continues this run with `robustness audit --resume`, and ends it with -9 when its first image is finished. The
seconds are those from the start of the process.
"""

from __future__ import annotations

import argparse
import functools
import io
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    from robustness.images.entries import Entry
    from robustness.runs.records import ImageRow, Row
    from robustness.runs.store import Run

SIZE, CLASSES, ATTACK = 32, 10, "fgsm(steps=1)"
FINISHED = 8
"""One image in so many is finished when the run is resumed."""
FLIPS = 3
"""Two in so many of these are flips."""


def make_model(folder: Path) -> None:
    """Save a small network with random weights."""
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3, strides=2, activation="relu"),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES, kernel_initializer=keras.initializers.RandomNormal(stddev=4.0)),
        ]
    )
    model.save(folder / "model.keras")


def shard_pixels(shard: int, count: int) -> np.ndarray:
    """The pictures of one shard, uint8 (count, 32, 32, 3): coarse colours, and noise."""
    random = np.random.default_rng(shard)
    coarse = random.integers(0, 256, (count, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
    noise = random.integers(-16, 17, (count, SIZE, SIZE, 3))
    return np.clip(coarse + noise, 0, 255).astype(np.uint8)


def make_shards(folder: Path, images: int, shards: int) -> None:
    """Write the shards, and beside each the model's classes and confidences."""
    import keras

    model = keras.saving.load_model(folder / "model.keras")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        waiting = []
        for shard in range(shards):
            count = images // shards
            logits = model.predict(shard_pixels(shard, count).astype(np.float32), 1024, verbose=0)
            shares = np.exp(logits - logits.max(axis=1, keepdims=True))
            sure = shares.max(axis=1) / shares.sum(axis=1)
            np.savez(folder / f"answers-{shard:03d}.npz", label=logits.argmax(axis=1), sure=sure)
            job = (folder, shard, logits.argmax(axis=1).tolist())
            waiting.append(pool.apply_async(write_shard, job))
        for one in waiting:
            one.get()


def write_shard(folder: Path, shard: int, labels: list[int]) -> None:
    """Write the pictures and labels of one shard."""
    from robustness.images.png import to_png

    pixels = shard_pixels(shard, len(labels))
    with tarfile.open(folder / f"data-{shard:03d}.tar", "w") as archive:
        for number, label in enumerate(labels):
            name = f"{shard:03d}{number:05d}"
            for suffix, data in ((".png", to_png(pixels[number])), (".cls", str(label).encode())):
                member = tarfile.TarInfo(name + suffix)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def serve(folder: Path) -> None:
    """Serve the shards until the process ends; the first line of output is the address."""
    from tests.robustness.files.object_server import ObjectServer, tag_of

    server = ObjectServer()
    for file in sorted(folder.glob("data-*.tar")):
        data = server.objects[f"b/{file.name}"] = file.read_bytes()
        tag_of(data)
    print(server.url, flush=True)
    server.serve_forever()


def fill(options: argparse.Namespace) -> None:
    """Write what an audit has written when it has attacked one image in `FINISHED`."""
    from robustness.images import open_source, select
    from robustness.runs.store import Run

    shards = f"s3://b/data-{{000..{options.shards - 1:03d}}}.tar"
    found = select(open_source(shards).entries())
    with Run.resume(options.run) as store:
        images: dict[int, ImageRow] = {}
        finished: list[Row] = []
        for image, rows in rows_of(options.folder, store, found):
            images[image.position] = replace(image, png=None)
            finished += [image, *rows] if rows else []
        # The clean pass writes images in the order of the run, and an attack those with pictures again.
        store.add(images[n] for n in range(len(images)))
        store.add(finished)


def rows_of(folder: Path, store: Run, entries: list[Entry]) -> Iterator[tuple[ImageRow, list[Row]]]:
    """Each image, and what the attack has written of it: of one image of `FINISHED`."""
    import hashlib

    from robustness.images.png import to_png
    from robustness.runs.records import FLIPPED, ROBUST, GradientRow, ImageRow, OutcomeRow

    evidence = store.manifest.config.evidence != "none"
    places = [(int(name[:3]), int(name[3:8]), n) for n, (_, name, _) in enumerate(entries)]
    shard, answers, pixels = -1, {}, np.empty(0)
    for part, number, position in sorted(places):
        if part != shard:
            shard = part
            with np.load(folder / f"answers-{shard:03d}.npz") as file:
                answers = dict(file)
            pixels = shard_pixels(shard, len(answers["label"]))
        entry, label, sure = entries[position], int(answers["label"][number]), answers["sure"]
        picture = pixels[number]
        ended = position % FINISHED == 0
        kept = ended and evidence
        image = ImageRow(
            key=entry.key, position=position, name=entry.name, label=entry.label, clean_class=label,
            digest=hashlib.sha256(picture.data).hexdigest(), confidence=float(sure[number]),
            png=store.save_png(to_png(picture)) if kept else None,
        )  # fmt: skip
        row: dict[str, Any] = {"image": entry.key, "attack": ATTACK, "epsilon": 1.0}
        common = row | {"confidence_before": image.confidence, "forward": 2, "backward": 1}
        if not ended:
            yield image, []
        elif position // FINISHED % FLIPS == 0:
            robust = OutcomeRow(status=ROBUST, **common)
            yield image, [robust, GradientRow(watched=1, blind=0, **row)]
        else:
            changed = np.where(picture < 255, picture + 1, picture - 1)
            flip = OutcomeRow(
                status=FLIPPED, adversarial_class=(label + 1) % CLASSES, confidence_after=0.5, step=1,
                restart=0, l0=SIZE * SIZE, components=SIZE * SIZE * 3, l1=3072.0, l2=3072**0.5,
                linf=1.0, png=store.save_png(to_png(changed)) if kept else None, **common,
            )  # fmt: skip
            yield image, [flip]


def command(options: argparse.Namespace) -> None:
    """Run `robustness audit`."""
    from robustness.cli import main

    more = ["--resume", str(options.run)]
    if not (options.run / "run.json").exists():
        shards = f"s3://b/data-{{000..{options.shards - 1:03d}}}.tar"
        more = ["-m", str(options.folder / "model.keras"), "-i", shards, "--scaling", "0..255"]
        more += ["--head", "logits", "-a", "fgsm", "-e", "1", "--evidence", options.evidence]
        more += ["--out", str(options.run)]
    sys.argv = ["robustness", "audit", *more]
    main()


def resume(options: argparse.Namespace) -> None:
    """Resume a run; say the seconds until the first image is finished, and end the process."""
    from robustness.cli import terminal

    at_first: list[int] = []

    def shown(_: Any, said: Any) -> None:
        if said.stage != ATTACK:
            return
        at_first.append(said.done)
        if said.done > at_first[0]:
            print(f"{time.time():.2f} {peak_memory():.0f}", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    terminal.Display.__call__ = shown  # type: ignore[assignment, method-assign]
    command(options)


def peak_memory() -> float:
    """The most memory that this process has had, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Print the seconds of each round."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, required=True, help="kept, and used again if it exists"
    )
    parser.add_argument("--images", type=int, default=1_000_192)
    parser.add_argument("--shards", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--evidence", default="none,flips")
    parser.add_argument(
        "--do",
        choices=("all", "model", "shards", "serve", "begin", "fill", "resume"),
        default="all",
    )
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    folder, shards = options.folder.resolve(), options.shards
    options.folder = folder
    folder.mkdir(parents=True, exist_ok=True)
    if options.do != "all":
        {
            "model": lambda: make_model(folder),
            "shards": lambda: make_shards(folder, options.images, shards),
            "serve": lambda: serve(folder),
            "begin": lambda: command(options),
            "fill": lambda: fill(options),
            "resume": lambda: resume(options),
        }[options.do]()
        return
    child = functools.partial(started, folder, options)
    if not (folder / "model.keras").exists():
        child("model").wait()
    if len(list(folder.glob("data-*.tar"))) < shards:
        child("shards").wait()
    server = child("serve", stdout=subprocess.PIPE)
    try:
        os.environ |= {
            "AWS_ENDPOINT_URL": server.stdout.readline().strip(),
            "AWS_REGION": "us-east-1",
        }
        os.environ |= {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "CI": "1"}
        os.environ |= {
            "ROBUSTNESS_CACHE": f"{folder / 'cache'}",
            "ROBUSTNESS_STATE": f"{folder / 'state'}",
        }
        for evidence in options.evidence.split(","):
            measure(folder, child, evidence, options.rounds)
    finally:
        server.kill()


def started(folder: Path, options: argparse.Namespace, what: str, *more: str, **given: Any) -> Any:
    """A process of this script that does one thing."""
    own = [
        "--folder",
        str(folder),
        "--images",
        str(options.images),
        "--shards",
        str(options.shards),
    ]
    words = [sys.executable, str(Path(__file__).resolve()), *own, "--do", what, *more]
    # Installed packages have their bytecode: they are not compiled at each start.
    compiled = {"PYTHONPYCACHEPREFIX": f"{folder / 'bytecode'}", "PYTHONDONTWRITEBYTECODE": ""}
    return subprocess.Popen(words, text=True, env=os.environ | compiled, **given)


def measure(folder: Path, child: Any, evidence: str, rounds: int) -> None:
    """Make the run if there is none, resume it several times, and print the seconds."""
    run = folder / f"run-{evidence}"
    own = ("--run", str(run), "--evidence", evidence)
    if not (folder / f"filled-{evidence}").exists():
        shutil.rmtree(run, ignore_errors=True)
        audited = child("begin", *own)
        while audited.poll() is None and not (run / "run.json").exists():
            time.sleep(0.1)
        time.sleep(0.2)
        audited.kill()
        audited.wait()
        child("fill", *own).wait()
        shutil.copy(run / "run.sqlite", folder / f"filled-{evidence}")
    found = []
    for number in range(rounds):
        for file in run.glob("run.sqlite*"):
            file.unlink()
        shutil.copy(folder / f"filled-{evidence}", run / "run.sqlite")
        began = time.time()
        resumed = child("resume", *own, stdout=subprocess.PIPE)
        ended, peak = map(float, resumed.stdout.readline().split())
        resumed.wait()
        found.append(ended - began)
        print(
            f"evidence {evidence}, round {number + 1}: {found[-1]:.2f} s, {peak:.0f} MB", flush=True
        )
    spread = f"{min(found):.2f} to {max(found):.2f} s"
    print(f"evidence {evidence}: median {statistics.median(found):.2f} s, {spread}")


if __name__ == "__main__":
    main()
