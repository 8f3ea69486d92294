#!/bin/sh
# Called by udhcpc with what it was told.
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev "$interface"
ip route add default via "$router"
