"""Opens the images that a command names, and checks the names of its models. Imports no framework."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustness.configuration.audit_config import AuditConfig

if TYPE_CHECKING:
    from robustness.images import Source


def open_images(config: AuditConfig) -> Source:
    """Return the source of the images."""
    from robustness.images.named import open_named

    return open_named(config.images, config.classes, config.label_column, config.cache_bytes)


def expect_models(config: AuditConfig) -> None:
    """Raise SettingError unless the options name models that exist. Imports no framework."""
    from robustness.model_zoo.registry import expect_known

    for name in (config.model, config.surrogate):
        if name is not None:
            expect_known(str(name))
