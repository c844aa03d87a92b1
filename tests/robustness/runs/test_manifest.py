"""Tests of what the manifest of a new run records about the environment."""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError

import keras
import pytest
import tensorflow as tf

from robustness.runs import manifest
from robustness.runs.run_json import manifest_of


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_the_version_of_the_backends_framework_is_recorded(framework, monkeypatch):
    before = set(sys.modules)
    monkeypatch.setattr(keras.backend, "backend", lambda: framework)
    monkeypatch.setattr(manifest, "version", lambda package: f"{package} 1.2")
    recorded = manifest._environment()
    assert recorded["backend"] == framework and recorded[framework] == f"{framework} 1.2"
    assert not {"jax", "torch"} & (set(sys.modules) - before)


def test_the_version_of_an_imported_framework_is_its_own(monkeypatch):
    """The distribution may have another name, such as tensorflow-cpu."""

    def missing(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(manifest, "version", missing)
    assert manifest._environment()["tensorflow"] == tf.__version__


def test_a_run_without_the_version_of_the_framework_is_read():
    older = {"backend": "jax", "keras": "3.12.0", "tensorflow": "not installed"}
    text = json.dumps({"schema": 2, "environment": older}).encode()
    assert manifest_of(text, "run.json").environment == older
