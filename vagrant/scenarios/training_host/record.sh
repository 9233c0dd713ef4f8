#!/bin/sh
# Runs inside a machine that has Limes' requirements but not Limes: installs the wheel without a
# network, plays the drill in the scope of its own cgroup, and leaves in /root what `limes replay`
# plays: drill.limesrec and drill-policy.toml. To make them anew, from vagrant/:
#   python -m harness run --push ../dist/limes-VERSION-py3-none-any.whl \
#     --push scenarios/training_host/record.sh \
#     --pull /root/drill.limesrec:../control/limes/packs/recordings/drill.limesrec \
#     --pull /root/drill-policy.toml:../control/limes/packs/recordings/drill-policy.toml \
#     -- sh /root/record.sh
set -eu
/opt/limes/bin/python -m pip install --quiet --no-index --no-deps --root-user-action=ignore /root/limes-*.whl
/opt/limes/bin/limes up --drill --seed 4 --record /root/drill.limesrec
cp /var/lib/limes/drill-policy.toml /root/
