"""Tests of what the manifest of a new run records about the environment."""

from __future__ import annotations

import json
import sys

import keras
import pytest

from robustness.runs import manifest
from robustness.runs.run_json import manifest_of


@pytest.mark.parametrize("framework", ["tensorflow", "jax", "torch"])
def test_the_version_of_the_backends_framework_is_recorded(framework, monkeypatch):
    before = set(sys.modules)
    monkeypatch.setattr(keras.backend, "backend", lambda: framework)
    monkeypatch.setattr(manifest, "version", lambda package: f"{package} 1.2")
    found = manifest._environment()
    assert found["backend"] == framework and found[framework] == f"{framework} 1.2"
    assert not {"jax", "torch"} & (set(sys.modules) - before)


def test_a_run_without_the_version_of_the_framework_is_read():
    older = {"backend": "jax", "keras": "3.12.0", "tensorflow": "not installed"}
    text = json.dumps({"schema": 2, "environment": older}).encode()
    assert manifest_of(text, "run.json").environment == older
