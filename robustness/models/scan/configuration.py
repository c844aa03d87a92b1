"""Parses the configuration in a model file within limits, and judges it: findings, sizes, conversion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from robustness.errors import ModelError
from robustness.files import bounded
from robustness.models.legacy.conversion import Conversion, convert, is_older
from robustness.models.legacy.entries import Unconvertible
from robustness.models.legacy.keras3_hdf5 import Weights, completed
from robustness.models.legacy.left_out import judged_parts
from robustness.models.scan.config_safety import MAX_OBJECTS, config_findings, quote
from robustness.models.scan.model_size import measure

MAX_CONFIG_BYTES = 16 << 20
"""The configuration of EfficientNetV2L, with a thousand layers, takes 1 MiB."""
MAX_CONFIG_DEPTH = 200
MAX_CONFIG_VALUES = 10 * MAX_OBJECTS
"""Most commas and brackets, counted before parsing, those within strings included."""


@dataclass(frozen=True)
class Judged:
    """What a configuration says about the model.

    Attributes
    ----------
    findings : reasons not to load it.
    trial : why the model must first be loaded in a process with limits; "" if it need not be.
    conversion : the configuration converted, if Keras 1 or 2 has written it, or completed (`keras3_hdf5`).
    unconverted : why it could not be; "" if it was or need not be.
    """

    findings: tuple[str, ...]
    trial: str = ""
    conversion: Conversion | None = None
    unconverted: str = ""


def parse_config(text: bytes | str, name: str) -> dict[str, Any]:
    """Return the configuration in the file `name`; ModelError if it is damaged or exceeds a limit."""
    try:
        config = bounded.parse_json(
            text,
            max_bytes=MAX_CONFIG_BYTES,
            max_values=MAX_CONFIG_VALUES,
            max_depth=MAX_CONFIG_DEPTH,
            finite=False,
        )
    except ValueError as error:
        raise damaged(name, error) from error
    if not isinstance(config, dict):
        raise ModelError(f"The configuration in {quote(name)} is no object; save the model again.")
    return config


def judge_config(
    config: dict[str, Any], version: str | None, numbers: int, backend: str | None = None
) -> Judged:
    """Return findings and sizes of a configuration, converted first if Keras 1 or 2 has written it.

    What is loaded is judged, and what the file holds too: a conversion leaves out what only training uses.

    Parameters
    ----------
    config : the parsed configuration.
    version : the version of Keras that the file states.
    numbers : how many numbers the file stores as weights.
    backend : the backend that the file states.
    """
    findings = config_findings(config)
    if not is_older(version):
        sizes = measure(config, numbers)
        return Judged((*findings, *sizes.findings), sizes.trial)
    try:
        conversion = convert(config, version, backend)
    except Unconvertible as problem:
        sizes = measure(config, numbers)
        return Judged((*findings, *sizes.findings), sizes.trial, None, str(problem))
    sizes = measure(conversion.config, numbers)
    held = [*config_findings(judged_parts(config)), *config_findings(conversion.config)]
    findings = list(dict.fromkeys(held))
    return Judged((*findings, *sizes.findings), sizes.trial, conversion)


def judge_hdf5(
    config: dict[str, Any],
    version: str | None,
    numbers: int,
    backend: str | None,
    weights: Weights,
) -> Judged:
    """Return the same for the configuration in an HDF5 file, completed if Keras 3 has written it.

    Parameters
    ----------
    config, version, numbers, backend : as for `judge_config`.
    weights : the weights in the file.
    """
    full = None if is_older(version) else completed(config, str(version), weights)
    if full is None:
        return judge_config(config, version, numbers, backend)
    judged = judge_config(full.config, version, numbers, backend)
    findings = (*config_findings(config), *judged.findings)
    return replace(judged, findings=tuple(dict.fromkeys(findings)), conversion=full)


def damaged(name: str, error: Exception) -> ModelError:
    """Return the error for a file that cannot be read, with the reader's reason."""
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return ModelError(f"{quote(name)} is damaged ({reason}). Copy it or save the model again.")
