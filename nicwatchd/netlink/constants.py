"""Numbers from the kernel's headers that pyroute2 does not name: attribute types and flags.

The tests pack messages with these numbers, and check the names under which pyroute2 decodes them.
"""

from __future__ import annotations

from typing import Final

# linux/if.h, if_link.h, if_inet6.h
IFF_UP: Final = 0x1
IFF_LOWER_UP: Final = 0x10000
IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_LINK: Final = 5
IFLA_MAX_MTU: Final = 51
IFLA_MASTER: Final = 10
IFLA_LINKINFO: Final = 18
IFLA_INFO_KIND: Final = 1  # in IFLA_LINKINFO
IFLA_AF_SPEC: Final = 26
IFLA_AF_INET6: Final = 10  # in IFLA_AF_SPEC; the number is AF_INET6
IFLA_INET6_FLAGS: Final = 1  # in IFLA_AF_INET6
IFLA_INET6_CONF: Final = 2  # in IFLA_AF_INET6: the link's sysctls, as 32-bit numbers
DEVCONF_DISABLE_IPV6: Final = 26  # the place of one of them; linux/ipv6.h
IFLA_GROUP: Final = 27
IFLA_EXT_MASK: Final = 29
IFLA_LINK_NETNSID: Final = 37  # the link of IFLA_LINK is in another network namespace
RTEXT_FILTER_SKIP_STATS: Final = 0x8
IF_RA_RCVD: Final = 0x20  # linux/if_inet6.h: kernel-internal flags that user space can read
IF_RA_MANAGED: Final = 0x40

# linux/netconf.h
NETCONFA_IFINDEX: Final = 1
NETCONFA_FORWARDING: Final = 2
NETCONFA_RP_FILTER: Final = 3
NETCONFA_IFINDEX_ALL: Final = 0xFFFF_FFFF  # -1

# linux/if_addr.h
IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_CACHEINFO: Final = 6
IFA_FLAGS: Final = 8
IFA_PROTO: Final = 11
IFA_F_TEMPORARY: Final = 0x01  # IPv6; for IPv4 the bit says "secondary"
IFA_F_NODAD: Final = 0x02
IFA_F_DADFAILED: Final = 0x08
IFA_F_DEPRECATED: Final = 0x20
IFA_F_TENTATIVE: Final = 0x40
IFA_F_NOPREFIXROUTE: Final = 0x200
IFA_F_STABLE_PRIVACY: Final = 0x800
IFAPROT_KERNEL_RA: Final = 2

# linux/rtnetlink.h
RTN_UNICAST: Final = 1
RTN_LOCAL: Final = 2
RTN_BROADCAST: Final = 3
RTN_ANYCAST: Final = 4
RTN_MULTICAST: Final = 5
RTM_F_CLONED: Final = 0x200
RTM_F_LOOKUP_TABLE: Final = 0x1000
RTM_F_FIB_MATCH: Final = 0x2000
RTNH_F_ONLINK: Final = 4
RTA_DST: Final = 1
RTA_SRC: Final = 2
RTA_IIF: Final = 3
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
RTA_PRIORITY: Final = 6
RTA_PREFSRC: Final = 7
RTA_METRICS: Final = 8
RTA_MULTIPATH: Final = 9
RTA_CACHEINFO: Final = 12
RTA_TABLE: Final = 15
RTA_MARK: Final = 16
RTA_VIA: Final = 18  # an IPv6 router for an IPv4 route
RTA_ENCAP: Final = 22
RTA_NH_ID: Final = 30
NLA_F_NESTED: Final = 0x8000
RTNLGRP_NEXTHOP: Final = 32  # the number of the group of notifications, since 5.3

# linux/nexthop.h, and its messages in linux/rtnetlink.h
RTM_NEWNEXTHOP: Final = 104
RTM_DELNEXTHOP: Final = 105
RTM_GETNEXTHOP: Final = 106
NHA_ID: Final = 1
NHA_GROUP: Final = 2
NHA_OIF: Final = 5
NHA_GATEWAY: Final = 6
NHA_ENCAP: Final = 8

# linux/fib_rules.h
FRA_DST: Final = 1
FRA_SRC: Final = 2
FRA_IIFNAME: Final = 3
FRA_PRIORITY: Final = 6
FRA_FWMARK: Final = 10
FRA_SUPPRESS_IFGROUP: Final = 13
FRA_SUPPRESS_PREFIXLEN: Final = 14
FRA_TABLE: Final = 15
FRA_FWMASK: Final = 16
FRA_OIFNAME: Final = 17
FRA_PROTOCOL: Final = 21
# Selectors whose values are not read: only foreign rules have them.
FRA_EXOTIC: Final = frozenset(
    {
        12,  # FRA_TUN_ID
        19,  # FRA_L3MDEV
        20,  # FRA_UID_RANGE
        22,  # FRA_IP_PROTO
        23,  # FRA_SPORT_RANGE
        24,  # FRA_DPORT_RANGE
        25,  # FRA_DSCP
        26,  # FRA_FLOWLABEL
    }
)
FIB_RULE_INVERT: Final = 0x2
