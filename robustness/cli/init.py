"""`robustness init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustness.configuration import defaults
from robustness.errors import SettingError
from robustness.files import disk_errors

NAME = "audit.toml"
TEMPLATE = f"""\
# What `robustness audit --config audit.toml` does. A line that begins with "#" and a key shows what
# can be set, with its default; the command line wins over this file. Paths are looked for beside it.

[model]
path = "dogs-vs-cats"          # a name (`robustness models`), a .keras or .h5 file, kaggle:OWNER/NOTEBOOK
#classes = ["cat", "dog"]      # in the order of the outputs, if the model does not say them
#scaling = "0..255"            # 0..255, 0..1, -1..1, caffe or torch; found out if not given
#trust = false                 # true: needs a file that could run code, and --trust-model in the command
#accuracy = 0.9                # what the model is said to reach; far less is no basis for an audit

[images]
path = "pets"                  # a folder, zip, CSV, .npz or picture; pets, pets:N for rendered ones
#label_column = "ClassId"       # of a CSV or .npz, if its name does not tell; "none" for no labels
#limit = 300                   # at most so many, a random sample in balance
#per_class = 100               # at most so many of each class
#held_out = false              # only photos that the bundled CNN never saw

[threat]
norm = "linf"                  # linf, l2, l1, l0, or free (spatial, corruptions)
epsilons = [1, 2, 4]           # budgets in counts of 255; "4/255" is 4
#target = "dog"                # the class to reach; any other class if not given
#surrogate = "other.keras"     # a model that the attacks look at; the one above only judges
#mask = "mask.png"             # a picture, bright where pixels may change; all may if not given

[[attacks]]                    # again for more; `robustness attacks` lists them
name = "{defaults.ATTACK}"              # an ensemble, or an attack with parameters of its own:
#name = "pgd"
#steps = 40
#restarts = 1
#step_size = "auto"            # follows epsilon

[run]
seed = 0                       # of the sample and of the attacks
#precision = "float32"         # or "bfloat16": what attacks look at the model with; verdicts are float32's
#all_steps = false             # take every step and report the last point, not the first flip
#cascade = false               # each attack sees only what still stands; by itself so with an ensemble
#thorough = false              # ask the dear diagnostics too: they run attacks again
#evidence = "flips"            # which pictures stay on disk: "all", "flips", "none", or a number of images
#batch_size = 32               # rows that advance together; from the memory there is if not given
#reports = ["html"]            # what is written into the run folder

# The gate: what the run must show. Exit codes: 0 pass, 1 a rule is broken, 2 usage, 3 the run broke
# down, 4 inconclusive, 5 nothing was evaluated. Without rules a sound run passes.

#[[gate.rules]]
#name = "floor"                # for the report, and for suppressions
#scope = "worst"               # worst (all attacks together), attack, or class
#attack = "pgd"                # with scope = "attack": which; each if not given
#class = "cat"                 # with scope = "class": which; each if not given
#metric = "robust_accuracy"    # robust_accuracy, clean_accuracy (at least), flip_rate (at most)
#epsilon = 4                   # the largest if not given
#threshold = 0.3
#bound = "lower"               # lower: the whole 95 % interval must do; point: the share itself

#[gate.baseline]               # no worse than an earlier run on the same images
#run = "baseline/report.json"  # or its folder
#max_drop = 0.02

#[[gate.suppress]]             # a rule or a diagnostic that does not count for a while
#rule = "D24"
#reason = "gradient attacks only until the next release"
#expires = 2027-01-31
"""


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path(NAME),
    force: Annotated[bool, typer.Option("--force", help="Replace the file that is there.")] = False,
) -> None:
    """Write a commented audit.toml, ready to be changed.

    \b
    Examples:
      robustness init
      robustness init ci/audit.toml
      robustness audit --config audit.toml
    """
    if path.exists() and not force:
        raise SettingError(f"{path} is there already; expected a new file. --force replaces it.")
    disk_errors.expect_place(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TEMPLATE, encoding="utf-8")
    typer.echo(f"{path}: change it, then run robustness audit --config {path}")
