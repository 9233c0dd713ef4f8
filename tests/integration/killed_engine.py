"""What test_alerts.py kills: commits one alert-worthy event after the other and runs the rules.

Usage: killed_engine.py DATABASE RULE LAST. Prints a line after each pass; goes on where the last
one of its kind was killed.
"""

import sys
from pathlib import Path

from limes.control.rules.engine import Engine
from limes.control.rules.given import events_of
from limes.control.rules.load import read_rule
from limes.control.rules.scratch import Scratch


def main(database: Path, rule: Path, last: int) -> None:
    """Commit up to `last` events, each of a cgroup of its own."""
    with Scratch(database) as scratch:
        engine = Engine(scratch.store, [read_rule(rule, pack="mine")])
        engine.process(scratch.last_ingest_id)
        while scratch.last_ingest_id < last:
            number = scratch.last_ingest_id + 1
            row = {"process_executable": "/bad", "process_exec_id": number, "boot_id": f"b{number}"}
            event = {"process_execs": {**row, "cgroup_path": f"/jobs/job_{number}"}}
            scratch.commit(events_of([event]))
            engine.process(scratch.last_ingest_id)
            print(number, flush=True)
        engine.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
