"""The built-in ensembles: AutoAttack as published, the article's attack, and this project's own.

This project's ensembles are `quick`, `standard` and `thorough`, in ascending order of cost.
"""

from __future__ import annotations

from robustness.attacks.bim import BIM
from robustness.contract.ensembles import Ensemble

_SOURCE = "Croce & Hein 2020, arXiv:2003.01690"
_LEADS = (
    "with two classes cross-entropy and the margin give APGD the same steps (each is a monotone function "
    "of the other), DLR is constant, and there is only one target class: "
)

AUTOATTACK = Ensemble(
    "autoattack",
    _SOURCE,
    "standard AutoAttack: two of gradients, one of boundaries, one of queries",
    members=(
        ("apgd", {"loss": "cross_entropy"}),
        ("apgd-t", {"targets": 9}),
        ("fab-t", {"targets": 9}),
        ("square", {"steps": 5000}),
    ),
    two=(
        ("apgd", {"loss": "margin", "restarts": 2}),
        ("fab", {}),
        ("square", {"steps": 5000}),
    ),
    why=f"{_LEADS}APGD-CE and APGD-T became two starts of apgd on the margin, FAB-T became fab",
)

PLUS = Ensemble(
    "autoattack-plus",
    _SOURCE,
    "AutoAttack's plus version: untargeted attacks from five starts too",
    members=(
        ("apgd", {"loss": "cross_entropy", "restarts": 5}),
        ("apgd", {"loss": "dlr", "restarts": 5}),
        ("fab", {"restarts": 5}),
        ("square", {"steps": 5000}),
        ("apgd-t", {"targets": 9}),
        ("fab-t", {"targets": 9}),
    ),
    two=(
        ("apgd", {"loss": "margin", "restarts": 11}),
        ("fab", {"restarts": 6}),
        ("square", {"steps": 5000}),
    ),
    why=f"{_LEADS}APGD-CE, APGD-DLR and APGD-T became eleven starts of apgd on the margin, FAB and "
    "FAB-T six of fab",
)

RAND = Ensemble(
    "autoattack-rand",
    _SOURCE,
    "AutoAttack's version for randomised models: gradients averaged over 20 answers",
    members=(
        ("eot", {"of": "apgd", "loss": "cross_entropy", "samples": 20}),
        ("eot", {"of": "apgd", "loss": "dlr", "samples": 20}),
    ),
    two=(("eot", {"of": "apgd", "loss": "margin", "restarts": 2, "samples": 20}),),
    why=f"{_LEADS}APGD-CE and APGD-DLR became two starts of apgd on the margin",
)

QUICK = Ensemble(
    "quick",
    "this project",
    "seconds, for a pull request: finds what is weak, proves nothing strong",
    members=(
        ("fgsm", {}),
        ("apgd", {"steps": 20, "loss": "margin"}),
        ("square", {"steps": 100}),
    ),
)

STANDARD = Ensemble(
    "standard",
    "this project",
    "minutes: gradients from several starts, and queries; what runs where no attack is named",
    members=(
        ("apgd", {"steps": 50, "loss": "cross_entropy"}),
        ("apgd-t", {"steps": 50, "targets": 3}),
        ("square", {"steps": 1000}),
    ),
    two=(
        ("apgd", {"steps": 50, "loss": "margin", "restarts": 3}),
        ("square", {"steps": 1000}),
    ),
    why=f"{_LEADS}APGD-CE and APGD-T became three starts of apgd on the margin",
    elsewhere={
        "l0": (
            ("sigma-zero", {"steps": 200}),
            ("fmn", {"steps": 200}),
            ("few-pixel", {"steps": 20, "population": 50}),
        )
    },
    blind=(("square", {"steps": 5000}), ("hopskipjump", {"steps": 200})),
)

ARTICLE = Ensemble(
    "article",
    BIM.paper,
    "the article's attack: four steps of one count each, whatever epsilon is",
    members=(("bim", {"steps": 4, "step_size": 1.0}),),
)

THOROUGH = Ensemble(
    "thorough",
    "this project",
    "hours: twice AutoAttack's steps and queries, from more starts",
    members=(
        ("apgd", {"steps": 200, "loss": "cross_entropy", "restarts": 3}),
        ("apgd", {"steps": 200, "loss": "dlr", "restarts": 3}),
        ("apgd-t", {"steps": 200, "targets": 9}),
        ("fab-t", {"steps": 200, "targets": 9}),
        ("square", {"steps": 10_000}),
    ),
    two=(
        ("apgd", {"steps": 200, "loss": "margin", "restarts": 10}),
        ("fab", {"steps": 200, "restarts": 3}),
        ("square", {"steps": 10_000}),
    ),
    why=f"{_LEADS}APGD-CE, APGD-DLR and APGD-T became ten starts of apgd on the margin, FAB-T three "
    "of fab",
)
