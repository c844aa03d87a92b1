"""Tests of runs whose model and images lie behind URLs: resumed, verified, repeated; and received ones."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import numpy as np
import pytest

from tests import forked
from tests.robustness import helpers
from tests.robustness.files.object_server import serving
from tests.robustness.images import source_files

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_a_run_of_urls_is_resumed_verified_and_repeated_by_its_owner_alone(tmp_path):
    classifier, images, labels, _ = helpers.two_sided(np.random.default_rng(5), rows=40, far=3.0)
    classifier.model.save(tmp_path / "model.keras")
    source_files.write_shards(source_files.members(images, labels), tmp_path / "shards")
    environment = {
        **os.environ, "CI": "1", "PYTHONPATH": str(ROOT), "ROBUSTNESS_CACHE": str(tmp_path / "cache"),
        "ROBUSTNESS_STATE": str(tmp_path / "state"),
    }  # fmt: skip

    def run(words: str, **more: str):
        return forked.robustness(shlex.split(words), tmp_path, {**environment, **more})

    with serving() as server:
        for path in (tmp_path / "model.keras", *(tmp_path / "shards").iterdir()):
            server.objects[f"b/{path.name}"] = path.read_bytes()
        done = run(
            f"audit {server.url}/b/model.keras {server.url}/b/data-{{000..002}}.tar --scaling 0..255 "
            "--head logits --classes cat,dog -a fgsm -e 1,2 --out run --report json"
        )
        assert done.returncode == 0, done.stderr
        origin = json.loads((tmp_path / "run/run.json").read_text())["origin"]
        assert origin["options"]["model"] == f"{server.url}/b/model.keras"
        for words in ("audit --resume run", "verify run", "rerun run --out again"):
            done = run(words)
            assert done.returncode == 0, (words, done.stdout, done.stderr)
        # Another user is not sent anywhere by a run that was received.
        server.requests.clear()
        for words in ("audit --resume run", "rerun run --out other"):
            done = run(words, ROBUSTNESS_STATE=str(tmp_path / "other-state"))
            assert done.returncode == 2
            assert "You did not start this run on this machine" in " ".join(done.stderr.split())
        assert not server.requests
        # A changed model is another one.
        server.objects["b/data-000.tar"] = server.objects["b/data-001.tar"]
        done = run("audit --resume run")
        assert done.returncode == 2 and "started differently" in " ".join(done.stderr.split())
