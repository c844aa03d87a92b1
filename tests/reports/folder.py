"""Write run folders without the toolkit, from their documented format: sqlite3, json, Pillow, NumPy."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

IMAGES = "key position name label digest note reason clean_class confidence png"
OUTCOMES = (
    "image attack epsilon status adversarial_class confidence_before confidence_after l0 components "
    "l1 l2 linf step restart forward backward float_flip reason png"
)
STRIPS = "image attack epsilon step png probabilities"
DEPLOYED = {
    "sizes": "image height width",
    "uploads": "image attack epsilon file linf l2",
    "views": "image attack epsilon before after",
}
"""Tables of runs that attack pictures at their own size."""
TABLES = {"images": IMAGES, "outcomes": OUTCOMES, "strips": STRIPS, **DEPLOYED}


def manifest(**changes: Any) -> dict[str, Any]:
    """A finished run's manifest; `changes` replace whole sections."""
    return {
        "schema": 1,
        "tool": {"name": "robustness-toolkit", "version": "0.1.0"},
        "created": "2026-11-23T04:00:00+00:00",
        "finished": "2026-11-23T04:01:40+00:00",
        "command": "robustness audit --model pets.keras --images photos --attack bim --epsilon 1,2,4",
        "origin": {},
        "config": {
            "attacks": [
                {
                    "name": "bim",
                    "label": "bim(steps=4)",
                    "parameters": {"steps": 4, "step_size": 1.0},
                    "knowledge": "white-box",
                    "paper": "Kurakin et al. 2017, arXiv:1607.02533",
                }
            ],
            "norm": "linf",
            "epsilons": [1.0, 2.0, 4.0],
            "goal": "untargeted",
            "seed": 0,
            "slots": 32,
            "evidence": "flips",
        },
        "model": {
            "name": "pets",
            "file": "pets.keras",
            "file_sha256": "ab" * 32,
            "format": "keras",
            "weights_sha256": "cd" * 32,
            "parameters": 123456,
            "input_shape": [16, 16, 3],
            "scaling": {"name": "counts", "sentence": "The model takes counts from 0 to 255."},
            "head": "softmax",
            "head_sentence": "The last layer is a softmax; the attacks work on its logits.",
            "class_names": ["cat", "dog"],
            "keras": "3.15.1",
        },
        "data": {
            "description": "folder photos, 2 classes, 12 images",
            "selected": 12,
            "available": 300,
            "sha256": "ef" * 32,
            "seed": 0,
        },
        "class_names": ["cat", "dog"],
        "environment": {
            "python": "3.11.7",
            "platform": "Linux",
            "keras": "3.15.1",
            "backend": "tensorflow",
            "device": "CPU, 2 cores",
        },
        "preflight": [
            {"id": "P01-input", "severity": "ok", "sentence": "The model takes 16 x 16 x 3."},
        ],
        "timing": {"seconds": 100.4},
    } | changes


class Folder:
    """Collects rows and writes them as a run folder."""

    def __init__(self, path: Path, **changes: Any) -> None:
        self.path, self.manifest = path, manifest(**changes)
        self.rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
        (path / "images").mkdir(parents=True)

    def image(self, key: str, **values: Any) -> None:
        defaults = {
            "name": key.rsplit("/", maxsplit=1)[-1],
            "position": len(self.rows["images"]),
            "digest": "d",
        }
        defaults |= {"note": "", "reason": "", "label": 0, "clean_class": 0, "confidence": 0.9}
        self.rows["images"].append({"key": key, **defaults, **values})

    def outcome(self, image: str, status: str, epsilon: float = 4.0, **values: Any) -> None:
        defaults = {"attack": "bim(steps=4)", "forward": 4, "backward": 4, "float_flip": 0}
        defaults |= {"reason": "", "confidence_before": 0.9}
        if status == "flipped":
            defaults |= {"adversarial_class": 1, "confidence_after": 0.8, "step": 3, "restart": 0}
            defaults |= {"l0": 256, "components": 700, "l1": 1500.0, "l2": 60.0, "linf": epsilon}
        row = {"image": image, "status": status, "epsilon": epsilon, **defaults, **values}
        self.rows["outcomes"].append(row)

    def strip(self, image: str, step: int, png: str, probabilities: Any, **values: Any) -> None:
        defaults = {"attack": "bim(steps=4)", "epsilon": 4.0}
        row = {"image": image, "step": step, "png": png, "probabilities": json.dumps(probabilities)}
        self.rows["strips"].append(defaults | row | values)

    def picture(self, pixels: np.ndarray) -> str:
        """Store uint8 pixels (height, width, channels) under the hash of their PNG bytes."""
        buffer = io.BytesIO()
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
        return self.file(buffer.getvalue())

    def file(self, data: bytes, suffix: str = ".png") -> str:
        """Store a file under the hash of its bytes."""
        digest = hashlib.sha256(data).hexdigest()
        target = self.path / "images" / digest[:2] / f"{digest}{suffix}"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(data)
        return target.relative_to(self.path).as_posix()

    def flip(
        self, key: str, *, rng: np.random.Generator, epsilon: int = 4, side: int = 16, **values: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Add a flipped image with pictures and their distances; return original and flip."""
        before = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        noise = rng.integers(-epsilon, epsilon + 1, before.shape)
        after = np.clip(before.astype(int) + noise, 0, 255).astype(np.uint8)
        change = np.abs(after.astype(int) - before.astype(int))
        self.image(key, png=self.picture(before))
        measured: dict[str, Any] = {
            "l0": int(change.any(-1).sum()),
            "components": int((change > 0).sum()),
        }
        measured |= {"l1": float(change.sum()), "linf": float(change.max())}
        measured |= {"l2": float(np.sqrt((change**2).sum())), "png": self.picture(after)}
        self.outcome(key, "flipped", float(epsilon), **(measured | values))
        return before, after

    def many(self, images: int, *, pictures: bool = False, side: int = 16) -> None:
        """Add two attacks at two epsilons on many images: 4 outcomes for each image, a third of them flips.

        With `pictures` each flip has a picture of `side` x `side` pixels.
        """
        rng = np.random.default_rng(8)
        attacks = ("bim(steps=4)", "pgd(steps=40)")
        self.manifest["config"]["attacks"] = [
            {"name": a[:3], "label": a, "knowledge": "white-box", "parameters": {}} for a in attacks
        ]
        # A smooth picture, like a photograph; noise would not compress.
        ramp = np.linspace(40, 200, side)
        smooth = np.stack([ramp[:, None] + 0 * ramp, ramp[None] + 0 * ramp[:, None]], axis=-1)
        for number in range(images):
            shade = rng.integers(20, 200)
            base = np.concatenate([smooth, np.full((side, side, 1), shade)], axis=-1)
            before = np.clip(base + rng.integers(-9, 9, base.shape), 0, 255).astype(np.uint8)
            kept = self.picture(before) if pictures else None
            label = number % 2
            self.image(f"{number:05}.jpg", label=label, clean_class=label, png=kept)
            for attack in attacks:
                for epsilon in (2, 4):
                    if (number + epsilon) % 3:
                        self.outcome(f"{number:05}.jpg", "robust", float(epsilon), attack=attack)
                        continue
                    values: dict[str, Any] = {"adversarial_class": 1 - label}
                    values["confidence_after"] = float(rng.uniform(0.5, 1))
                    if pictures:
                        values |= self._noisy(before, epsilon, rng)
                    self.outcome(
                        f"{number:05}.jpg", "flipped", float(epsilon), attack=attack, **values
                    )

    def _noisy(self, before: np.ndarray, epsilon: int, rng: np.random.Generator) -> dict[str, Any]:
        noise = rng.integers(-epsilon, epsilon + 1, before.shape)
        after = np.clip(before.astype(int) + noise, 0, 255).astype(np.uint8)
        change = np.abs(after.astype(int) - before.astype(int))
        measured: dict[str, Any] = {
            "l0": int(change.any(-1).sum()),
            "components": int((change > 0).sum()),
        }
        measured |= {"l1": float(change.sum()), "linf": float(change.max())}
        return measured | {"l2": float(np.sqrt((change**2).sum())), "png": self.picture(after)}

    def write(self) -> Path:
        (self.path / "run.json").write_text(json.dumps(self.manifest), encoding="utf-8")
        database = sqlite3.connect(self.path / "run.sqlite")
        for table, columns in TABLES.items():
            if table in DEPLOYED and not self.rows[table]:
                continue
            names = columns.split()
            database.execute(f"CREATE TABLE {table} ({', '.join(names)})")
            marks = ", ".join("?" * len(names))
            values = [tuple(row.get(name) for name in names) for row in self.rows[table]]
            database.executemany(f"INSERT INTO {table} VALUES ({marks})", values)
        database.commit()
        database.close()
        return self.path
