#!/bin/sh
# Runs inside a machine that has Limes' requirements but not Limes: installs the wheel without a
# network, then plays the drill with the whole host watched through the fentry plan.
# usage: drill.sh WHEEL LOADER      standard output: JSON lines of `limes up --drill --json`
set -eu
wheel=$1
loader=$2
/opt/limes/bin/python -m pip install --quiet --no-index --no-deps --root-user-action=ignore "$wheel" >&2
# The two hunts at the end run under emulation, on a host that may be busy.
export LIMES_CONTROL_HUNT_TIMEOUT_SECONDS=300
exec /opt/limes/bin/limes up --drill --scope / --plan fentry --loader "$loader" --json
