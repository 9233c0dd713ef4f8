"""Owns `python -m limes.drill`: plays one drill alone and prints its steps.

Invariant: it ends 0 when every step reached its end, 2 on wrong usage, 3 when it cannot run or a
step failed, and 128 + n by signal n; in each case nothing is left behind.
"""

import argparse
import json
import sys
from pathlib import Path

from limes.drill import DEFAULT_STATE_DIR, DrillError, DrillWorld, Step


def main(arguments: list[str] | None = None) -> int:
    """Play one drill and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m limes.drill", description=__doc__)
    parser.add_argument("--seed", type=int, help="play the drill of this seed again")
    parser.add_argument("--state-dir", type=Path, default=DEFAULT_STATE_DIR)
    parser.add_argument("--truth", action="store_true", help="print what each step did, as JSON")
    options = parser.parse_args(arguments)
    try:
        with DrillWorld.create(seed=options.seed, state_dir=options.state_dir) as world:
            print(f"# {world.cgroup_path}, seed {world.seed}, policy:", file=sys.stderr)
            print(world.policy_toml(), file=sys.stderr)
            steps = world.play(_show)
            if options.truth:
                for step in steps:
                    print(json.dumps({"step": step.name, **step.truth}))
            for alert in world.expected():
                print(f"# expected: {alert.rule} {alert.cgroup}", file=sys.stderr)
    except DrillError as error:
        print(f"drill: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    return 0


def _show(step: Step) -> None:
    print(f"{step.started_at:%H:%M:%S.%f} {step.name:<15} {step.label}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
