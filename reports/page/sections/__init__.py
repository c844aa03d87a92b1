"""The sections of the report's page, a module each with its template beside the others.

A section is a function `section` of `robustness.reports.page.section.PageData`. To add one, write the
module and put its function into `SECTIONS`, at its place on the page.
"""

from __future__ import annotations

from robustness.reports.page.section import SectionMaker
from robustness.reports.page.sections import (
    attacks,
    change,
    clean,
    data,
    device,
    diagnostics,
    findings,
    flip_rates,
    gate,
    limits,
    pictures,
    pipeline,
    remedies,
    reproduce,
    target,
    threat,
    worst_case,
)

SECTIONS: tuple[SectionMaker, ...] = (
    pictures.section,
    gate.section,
    findings.section,
    remedies.section,
    clean.section,
    attacks.section,
    pipeline.section,
    worst_case.section,
    flip_rates.section,
    change.section,
    threat.section,
    target.section,
    data.section,
    device.section,
    diagnostics.section,
    limits.section,
    reproduce.section,
)
"""Every section of ours, in the order of the page."""
