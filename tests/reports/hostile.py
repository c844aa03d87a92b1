"""A run whose names are injection attacks on readers of its report."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.reports.folder import Folder

HOSTILE = [
    "<img src=x onerror=alert(1)>.png",
    '"><script>alert(1)</script>.jpg',
    "</script></style></title><svg onload=alert(1)>",
    "' onmouseover='alert(1)",
    "javascript:alert(1) https://evil.example/x.png",
    "{{ 7 * 7 }}{% include 'report.css' %}",
    "photo\u202egpj.exe",
    "line\nbreak\x00\x1b[31m\x7f",
    "x" * 300 + ".jpg",
    "]]><!--",
    "=cmd|'/C calc'!A0",
    "::error file=a.py,line=1::broken%0A::set-output name=x::y",
    "\t+1+cmd|' /C calc'!A0",
    "@everyone [click](https://evil.example) #1 www.evil.example | `code` **bold** <b>",
    "\ud800 lone",
    "a\\[link](1) {0} ${{ secrets.TOKEN }}",
]
ATTACK = "<svg/onload=alert(1)>=1+1|`x`::error::"
CLASSES = ["<b>cat</b>", '</script><script>alert("dog")</script>']


def fill(folder: Folder) -> Path:
    """Fill a run with flips, unreadable images and failures under every hostile name."""
    rng = np.random.default_rng(2)
    folder.manifest["class_names"] = CLASSES
    folder.manifest["command"] = "robustness audit '<script>alert(1)</script>' \u202e"
    folder.manifest["model"]["name"] = "<script>alert(1)</script>"
    folder.manifest["model"]["file"] = "../a b/<script>?#%.keras"
    folder.manifest["model"]["notes"] = ["</dl><img src=https://evil.example/p.png>"]
    folder.manifest["config"]["attacks"][0]["paper"] = "<a href=javascript:alert(1)>paper</a>"
    folder.manifest["config"]["attacks"][0]["label"] = ATTACK
    folder.manifest["config"]["attacks"][0]["parameters"] = {"<script>": "</script>{0}"}
    folder.manifest["preflight"] = [
        {"id": '"><img>', "severity": '"><script>', "sentence": "<script>alert(1)</script>"}
    ]
    folder.manifest["environment"]["<script>"] = "<script>"
    folder.manifest["diagnostics"] = [
        {
            "id": "D07]]>",
            "title": "<script>alert(1)</script>",
            "status": "warn",
            "sentence": "::error::\n<img src=x onerror=alert(1)>",
            "evidence": {"</script>": "<!--<script>"},
        }
    ]
    folder.manifest["median_epsilon"] = {ATTACK: {"median": 1.5, "low": 1.0, "high": 2.5}}
    for number, name in enumerate(HOSTILE):
        # SQLite cannot store a lone surrogate; readers of files replace it by a question mark.
        safe = name.encode("utf-8", "replace").decode()
        key = f"{number}/{safe}"
        before, after = folder.flip(key, rng=rng, attack=ATTACK, confidence_after=0.6 + number / 50)
        folder.rows["images"][-1]["name"] = safe
        values = {"attack": ATTACK}
        folder.strip(key, 0, folder.picture(before), [0.9, 0.1], **values)
        folder.strip(key, 3, folder.picture(after), [0.1, 0.9], **values)
        lost = f"lost {safe}"
        folder.image(lost, clean_class=None, reason=f"cannot be read: {safe}")
        folder.outcome(lost, "unreadable", attack=ATTACK)
        folder.image(safe, name=safe)
        folder.outcome(safe, "failed", attack=ATTACK, reason=safe)
    return folder.write()
