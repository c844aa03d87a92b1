"""Write docs/configuration.md and docs/audit.schema.json from the fields of `AuditConfig`.

python scripts/write_configuration_docs.py
"""

from __future__ import annotations

import json
from pathlib import Path

from robustness.configuration.reference_page import reference_page
from robustness.configuration.schema import json_schema

DOCS = Path(__file__).parents[1] / "docs"


def pages() -> dict[str, str]:
    """The text of each generated file, by its name in docs/."""
    return {
        "configuration.md": reference_page(),
        "audit.schema.json": f"{json.dumps(json_schema(), indent=2)}\n",
    }


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
