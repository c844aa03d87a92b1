"""Compare the cost that `robustness plan` expects with that of the audit, both in fresh processes.

    python benchmarks/plan_accuracy.py --images dogs-vs-cats.zip --count 60 --attack pgd --epsilon 1,2,4

Both are timed from the call to the last outcome: loading, checks, clean pass and attacks. Processor seconds
are those of all threads; on a shared machine they vary less than the seconds of the clock.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def planned(arguments: argparse.Namespace, options: dict[str, Any]) -> dict[str, Any]:
    import robustness

    estimate = robustness.plan(
        arguments.model,
        arguments.images,
        sample=arguments.sample,
        presets=(),
        **options,
    )
    clock, processor = estimate.seconds(), estimate.processor_seconds()
    return {
        "clock": [clock.low, clock.expected, clock.high],
        "processor": [processor.low, processor.expected, processor.high],
        "forward": sum(attack.forward for attack in estimate.audit.attacks),
        "backward": sum(attack.backward for attack in estimate.audit.attacks),
        "memory": estimate.audit.memory,
        "disk": estimate.disk(),
    }


def audited(arguments: argparse.Namespace, options: dict[str, Any]) -> dict[str, Any]:
    import robustness
    from robustness.auditing.probe import peak_bytes

    ends: list[tuple[float, float]] = []
    memory: list[int] = []

    def heard(progress: Any) -> None:
        if progress.stage == "step pictures" and not ends:
            ends.append(now())
            memory.append(peak_bytes())

    with tempfile.TemporaryDirectory() as folder:
        began = now()
        result = robustness.audit(
            arguments.model, arguments.images, out=f"{folder}/run", progress=heard, **options
        )
        outcomes = result.outcomes
        disk = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
    clock, processor = (after - before for before, after in zip(began, ends[0], strict=True))
    return {
        "clock": clock,
        "processor": processor,
        "forward": int(outcomes.forward.sum()),
        "backward": int(outcomes.backward.sum()),
        "memory": memory[0],
        "disk": disk,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="dogs-vs-cats")
    parser.add_argument("--images", required=True)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--sample", type=int, default=48)
    parser.add_argument("--attack", action="append", help="repeat it to measure several audits")
    parser.add_argument("--epsilon", default="4", help="in counts, separated by commas")
    parser.add_argument("--worker", choices=["plan", "audit"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    attacks = arguments.attack or ["pgd", "quick", "standard"]
    if arguments.worker:
        options = {
            "attacks": attacks,
            "epsilons": [float(text) for text in arguments.epsilon.split(",")],
            "held_out": True,
            "limit": arguments.count,
        }
        work = planned if arguments.worker == "plan" else audited
        print(json.dumps(work(arguments, options)))
        return
    for attack in attacks:
        results = {}
        for worker in ("plan", "audit"):
            words = [sys.executable, __file__, "--worker", worker, "--attack", attack]
            words += ["--images", arguments.images, "--model", arguments.model]
            words += ["--count", str(arguments.count), "--sample", str(arguments.sample)]
            words += ["--epsilon", arguments.epsilon]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            results[worker] = json.loads(done.stdout.splitlines()[-1])
        print(f"{attack}, epsilon {arguments.epsilon}, {arguments.count} images")
        for name in ("processor", "clock"):
            low, expected, high = results["plan"][name]
            actual = results["audit"][name]
            print(
                f"  {name} seconds: expected {expected:.1f} ({low:.1f}-{high:.1f}), took {actual:.1f}: "
                f"{expected / actual:.2f} times"
            )
        for name in ("forward", "backward", "memory", "disk"):
            expected, actual = results["plan"][name], results["audit"][name]
            ratio = f": {expected / actual:.2f} times" if actual else ""
            print(f"  {name}: expected {expected:,.0f}, was {actual:,.0f}{ratio}")


if __name__ == "__main__":
    main()
