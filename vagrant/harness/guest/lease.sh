#!/bin/sh
# Called by udhcpc; its answer is the machine's only address.
if [ "$1" = bound ]; then
	ip addr add "$ip/$mask" dev "$interface"
	[ -z "$router" ] || ip route add default via "${router%% *}"
fi
