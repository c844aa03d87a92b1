"""The cost of an audit, computed from what was measured on a sample of its images."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from robustness.auditing.probe import AttackProbe, Seconds
from robustness.numerics.intervals import Z95, wilson_interval

ROW_BYTES = 400
"""The bytes of an outcome in the database, with its index."""


@dataclass(frozen=True)
class Range:
    """A figure, and the interval (95 %) that the size of the sample allows."""

    low: float
    expected: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def or_more(self, other: Range) -> Range:
        """Return the larger of both figures, bound by bound."""
        return Range(
            max(self.low, other.low), max(self.expected, other.expected), max(self.high, other.high)
        )

    def __mul__(self, factor: float) -> Range:
        return Range(self.low * factor, self.expected * factor, self.high * factor)


@dataclass(frozen=True)
class AttackCost:
    """What one attack of an audit is expected to cost.

    Attributes
    ----------
    attack : its label.
    batch_size : rows of a batch.
    images : the images that it runs on.
    never_flip : those of them that it does not flip.
    most_forward, most_backward : passes of all steps of an image that never flips, without the judge's.
    forward, backward : passes in all, without the judge's of images that the probe did not finish.
    steps : steps of rows in all.
    longest : steps of the image that takes most, which follow each other: many machines do not shorten them.
    compiling : seconds, in every process.
    step, call : seconds of a row's step in a full batch, and of a step of a batch that is almost empty.
    beside : seconds of all images beside steps: the judge, files.
    memory : bytes of one process.
    sampled, unfinished : images of the sample that it ran on, and those that took longer than the probe.
    reason : why it cannot run; "" if it can.
    """

    attack: str
    batch_size: int
    images: Range
    never_flip: Range
    most_forward: int
    most_backward: int
    forward: float
    backward: float
    steps: Range
    longest: Range
    compiling: Seconds
    step: Seconds
    call: Seconds
    beside: tuple[Range, Range]
    memory: int
    sampled: int
    unfinished: int
    reason: str = ""

    @classmethod
    def of(
        cls, probe: AttackProbe, images: int, sample: int, doubtful: Container[str] = ()
    ) -> AttackCost:
        """Return the cost for `images` images, of which `sample` were looked at.

        It is not known whether the images with the keys `doubtful` reach the attack, since the probe did not
        finish an earlier one on them: the lower ends of ranges leave them out.
        """
        scale = images / sample
        measured = list(probe.images.values())
        sure = [one for key, one in probe.images.items() if key not in doubtful]
        sure_held = [one for one in sure if not one.flipped]
        flipped = [one.steps for one in measured if one.flipped]
        held = [one for one in measured if not one.flipped]
        low, high = (
            wilson_interval(len(sure_held), sample)[0],
            wilson_interval(len(held), sample)[1],
        )
        # Whether an image that the probe did not finish will flip is not known either.
        robust = wilson_interval(sum(one.finished for one in sure_held), sample)[0]
        # An image that the probe did not finish takes at least the rest of the epsilon that it had reached.
        late = [_ceiling(one.steps, probe) for one in held if not one.finished]
        spent = sum(one.steps for one in held if one.finished) + sum(late)
        least = min((one.steps for one in sure_held), default=0.0)
        spread = Z95 * _deviation(flipped, sample) / math.sqrt(sample)
        mean = sum(flipped) / sample
        # Some attacks begin with steps that are not counted in their number.
        most = float(max([probe.most_steps, *(one.steps for one in measured)]))
        sure_flipped = [one.steps for one in sure if one.flipped]
        steps = Range(
            images * (max(0.0, sum(sure_flipped) / sample - spread) + low * least),
            images * (mean + spent / sample),
            images * (mean + spread + high * most),
        )
        reached = wilson_interval(len(sure), sample)[0], wilson_interval(len(measured), sample)[1]
        attacked = Range(images * reached[0], len(measured) * scale, images * reached[1])
        longest = max([*flipped, *(one.steps for one in held if one.finished), *late], default=0.0)
        forward, backward = probe.passes
        rest = sum(late)
        return cls(
            attack=probe.attack.label,
            batch_size=probe.batch_size,
            images=attacked,
            never_flip=Range(images * robust, len(held) * scale, images * high),
            most_forward=forward * probe.most_steps,
            most_backward=backward * probe.most_steps,
            forward=scale * (sum(one.passes[0] for one in measured) + rest * forward),
            backward=scale * (sum(one.passes[1] for one in measured) + rest * backward),
            steps=steps,
            longest=Range(
                max([*sure_flipped, least] if low else sure_flipped, default=0.0),
                longest,
                most,
            ),
            compiling=probe.compiling,
            step=probe.step,
            call=probe.call,
            beside=(attacked * probe.per_image.wall, attacked * probe.per_image.processor),
            memory=probe.memory,
            sampled=len(measured),
            unfinished=len(late),
            reason=probe.reason,
        )

    def seconds(self, workers: int) -> Range:
        """Return the wall-clock seconds on `workers` machines like this one."""
        shared = self.steps * (self.step.wall / workers)
        # The last images run almost alone in their batch.
        alone = self.longest * self.call.wall
        return (
            self._fixed(self.compiling.wall)
            + shared.or_more(alone)
            + self.beside[0] * (1 / workers)
        )

    def processor_seconds(self, workers: int) -> Range:
        """Return the seconds of all processors of `workers` machines together."""
        shared, alone = self.steps * self.step.processor, self.longest * self.call.processor
        return (
            self._fixed(self.compiling.processor) * workers + shared.or_more(alone) + self.beside[1]
        )

    def _fixed(self, seconds: float) -> Range:
        """The seconds of compiling; an attack that no image of the sample reaches is perhaps not compiled."""
        return Range(0.0, seconds if self.sampled else 0.0, seconds)


def _ceiling(steps: float, probe: AttackProbe) -> float:
    """The steps of whole epsilons that are not fewer than `steps`."""
    each = probe.each_steps
    return float(max(steps, min(probe.most_steps, max(1, math.ceil(steps / each)) * each)))


def _deviation(values: Sequence[float], count: int) -> float:
    """The standard deviation of `count` values, those that are not given being 0."""
    mean = sum(values) / count
    return math.sqrt(
        (sum((value - mean) ** 2 for value in values) + (count - len(values)) * mean**2) / count
    )


@dataclass(frozen=True)
class ListCost:
    """What a list of attacks costs: that of the audit, or a preset.

    Attributes
    ----------
    name : "audit", or the name of an ensemble.
    attacks : the cost of each attack, in order.
    cascade : whether each runs only on images that no earlier one flips.
    pictures : bytes of the files of flips.
    reason : why the preset cannot be run; "" if it can.
    """

    name: str
    attacks: tuple[AttackCost, ...] = ()
    cascade: bool = False
    pictures: float = 0.0
    reason: str = ""

    @property
    def memory(self) -> int:
        """The most bytes of one process."""
        return max((attack.memory for attack in self.attacks), default=0)


@dataclass(frozen=True)
class CostEstimate:
    """What an audit is expected to cost on this machine and on several like it.

    Seconds are those up to the last outcome. Step pictures, diagnostics and reports follow; they look at a
    bounded number of images.

    Attributes
    ----------
    images : the images of the audit.
    sample : the images that were looked at.
    wrong : those of them that are not attacked: misclassified or unreadable.
    workers : how many machines share the images.
    loading, checks : seconds before the clean pass, in every process.
    clean : seconds of reading and predicting all images, in one process.
    originals : bytes of the files of originals.
    epsilons : the number of epsilons.
    audit : the attacks of the audit.
    presets : `quick`, `standard` and `thorough`.
    probing : seconds that the measurement took.
    notes : sentences about what the estimate leaves out.
    """

    images: int
    sample: int
    wrong: int
    workers: int
    loading: Seconds
    checks: Seconds
    clean: Seconds
    originals: float
    epsilons: int
    audit: ListCost
    presets: tuple[ListCost, ...]
    probing: float
    notes: tuple[str, ...] = ()

    def seconds(self, cost: ListCost | None = None, workers: int | None = None) -> Range:
        """Return the wall-clock seconds of a list of attacks (the audit's) on `workers` machines."""
        cost, workers = cost or self.audit, workers or self.workers
        before = self.loading.wall + self.checks.wall + self.clean.wall / workers
        total = Range(before, before, before)
        for attack in cost.attacks:
            total += attack.seconds(workers)
        return total

    def processor_seconds(self, cost: ListCost | None = None, workers: int | None = None) -> Range:
        """Return the seconds of the processors of all machines together."""
        cost, workers = cost or self.audit, workers or self.workers
        before = (self.loading.processor + self.checks.processor) * workers + self.clean.processor
        total = Range(before, before, before)
        for attack in cost.attacks:
            total += attack.processor_seconds(workers)
        return total

    def disk(self, cost: ListCost | None = None) -> float:
        """Return the bytes of the run folder: files of originals and flips, and the database."""
        cost = cost or self.audit
        rows = self.images * self.epsilons * len(cost.attacks)
        return self.originals + cost.pictures + rows * ROW_BYTES

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as JSON values."""
        plain = asdict(self)
        plain["audit"] = self._list(self.audit)
        plain["presets"] = [self._list(preset) for preset in self.presets]
        return plain

    def _list(self, cost: ListCost) -> Mapping[str, Any]:
        known = bool(cost.attacks)
        return asdict(cost) | {
            "seconds": asdict(self.seconds(cost)) if known else None,
            "processor_seconds": asdict(self.processor_seconds(cost)) if known else None,
            "one_machine_seconds": asdict(self.seconds(cost, 1)) if known else None,
            "memory": cost.memory,
            "disk": self.disk(cost) if known else None,
        }
