"""The attacks that the benchmarks compare, with their parameters in each library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.peers import Peer, art, cleverhans, foolbox, torchattacks


@dataclass(frozen=True)
class Contest:
    """One attack in the notation of each library; `norm` is the one to minimise, None: fixed budget."""

    name: str
    ours: str
    theirs: dict[str, Peer]
    norm: str | None = None


FIXED: dict[str, Any] = {"eps": "eps*1", "alpha": "eps*0.1", "steps": 10}
CONTESTS = (
    Contest(
        "FGSM",
        "fgsm",
        {
            "foolbox": foolbox("LinfFastGradientAttack", random_start=False),
            "art": art("FastGradientMethod", eps="eps*1"),
            "cleverhans": cleverhans(
                "fast_gradient_method", eps="eps*1", norm=np.inf, clip_min=0.0, clip_max=1.0
            ),
            "torchattacks": torchattacks("FGSM", eps="eps*1"),
        },
    ),
    *(
        Contest(
            f"PGD from {where}, 20 steps",
            f"pgd:steps=20,step_size=eps*0.25,random_start={str(drawn).lower()}",
            {
                "foolbox": foolbox("LinfPGD", steps=20, rel_stepsize=0.25, random_start=drawn),
                "art": art(
                    "ProjectedGradientDescent",
                    eps="eps*1",
                    eps_step="eps*0.25",
                    max_iter=20,
                    num_random_init=int(drawn),
                    verbose=False,
                ),
                "cleverhans": cleverhans(
                    "projected_gradient_descent",
                    eps="eps*1",
                    eps_iter="eps*0.25",
                    nb_iter=20,
                    norm=np.inf,
                    clip_min=0.0,
                    clip_max=1.0,
                    rand_init=drawn,
                    sanity_checks=False,
                ),
                "torchattacks": torchattacks(
                    "PGD", eps="eps*1", alpha="eps*0.25", steps=20, random_start=drawn
                ),
            },
        )
        for where, drawn in (("a random start", True), ("the image", False))
    ),
    Contest(
        "MI-FGSM, 10 steps",
        "mi-fgsm:steps=10",
        {
            "foolbox": foolbox(
                "LinfMomentumIterativeFastGradientMethod",
                steps=10,
                rel_stepsize=0.1,
                random_start=False,
            ),
            "torchattacks": torchattacks("MIFGSM", **FIXED),
        },
    ),
    Contest(
        "NI-FGSM, 10 steps",
        "ni-fgsm:steps=10",
        {
            "torchattacks": torchattacks("NIFGSM", **FIXED),
        },
    ),
    Contest(
        "DI-FGSM, 10 steps",
        "di-fgsm:steps=10",
        {
            "torchattacks": torchattacks("DIFGSM", **FIXED, decay=1.0),
        },
    ),
    Contest(
        "TI-FGSM, 10 steps",
        "ti-fgsm:steps=10",
        {
            "torchattacks": torchattacks("TIFGSM", **FIXED, decay=1.0, diversity_prob=0.0),
        },
    ),
    Contest(
        "VMI-FGSM, 10 steps",
        "vmi-fgsm:steps=10,neighbours=5",
        {
            "torchattacks": torchattacks("VMIFGSM", **FIXED, N=5),
        },
    ),
    Contest(
        "APGD-CE, 100 steps",
        "apgd:steps=100",
        {
            "art": art(
                "AutoProjectedGradientDescent",
                eps="eps*1",
                eps_step="eps*2",
                max_iter=100,
                nb_random_init=1,
                verbose=False,
                loss_type="cross_entropy",
            ),
            "torchattacks": torchattacks("APGD", eps="eps*1", steps=100, n_restarts=1),
        },
    ),
    Contest(
        "FAB-T, 100 steps, 9 classes",
        "fab-t:steps=100,targets=9",
        {
            "torchattacks": torchattacks(
                "FAB",
                eps="eps*1",
                steps=100,
                n_restarts=1,
                multi_targeted=True,
                n_classes="classes",
            ),
        },
    ),
    Contest(
        "Square, 1000 queries",
        "square:steps=1000",
        {
            "art": art(
                "SquareAttack", eps="eps*1", max_iter=1000, p_init=0.8, nb_restarts=1, verbose=False
            ),
            "torchattacks": torchattacks(
                "Square", eps="eps*1", n_queries=1000, n_restarts=1, p_init=0.8, loss="margin"
            ),
        },
    ),
    Contest(
        "SPSA, 20 steps of 128",
        "spsa:steps=20,samples=64",
        {
            "cleverhans": cleverhans(
                "spsa", eps="eps*1", nb_iter=20, clip_min=0.0, clip_max=1.0, spsa_samples=128
            ),
        },
    ),
    Contest(
        "AutoAttack",
        "autoattack",
        {
            # By default it gives APGD, APGD-T and FAB-T ten steps; the papers use a hundred.
            "torchattacks": torchattacks("AutoAttack", each=100, eps="eps*1", n_classes="classes"),
        },
    ),
    Contest(
        "DeepFool l2, 50 steps",
        "deepfool:steps=50",
        {
            "foolbox": foolbox("L2DeepFoolAttack", steps=50),
            "art": art("DeepFool", max_iter=50, nb_grads="classes", verbose=False),
            "torchattacks": torchattacks("DeepFool", steps=50),
        },
        "l2",
    ),
    Contest(
        "C&W l2, 9 searches of 100",
        "cw:steps=900,binary_search_steps=9",
        {
            "foolbox": foolbox(
                "L2CarliniWagnerAttack", binary_search_steps=9, steps=100, abort_early=False
            ),
            "art": art(
                "CarliniL2Method", binary_search_steps=9, max_iter=100, batch_size=64, verbose=False
            ),
        },
        "l2",
    ),
    Contest(
        "DDN, 100 steps",
        "ddn:steps=100",
        {
            "foolbox": foolbox("DDNAttack", steps=100),
        },
        "l2",
    ),
    Contest(
        "FMN l2, 100 steps",
        "fmn:steps=100",
        {
            "foolbox": foolbox("L2FMNAttack", steps=100),
        },
        "l2",
    ),
    Contest(
        "HopSkipJump l2, about 5000 queries",
        "hopskipjump:steps=1000",
        {
            "foolbox": foolbox("HopSkipJumpAttack", steps=25, max_gradient_eval_steps=300),
        },
        "l2",
    ),
    Contest(
        "EAD l1, 9 searches of 100",
        "ead:steps=900,binary_search_steps=9",
        {
            "foolbox": foolbox(
                "EADAttack",
                binary_search_steps=9,
                steps=100,
                decision_rule="L1",
                regularization=0.01,
                abort_early=False,
            ),
            "art": art(
                "ElasticNet",
                binary_search_steps=9,
                max_iter=100,
                batch_size=64,
                decision_rule="L1",
                beta=0.01,
                verbose=False,
            ),
        },
        "l1",
    ),
)
