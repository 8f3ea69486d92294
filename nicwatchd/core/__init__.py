"""The pure core: facts in, decisions out.

The rules
    No I/O, no clock, no asyncio, no logging; the standard library only. Time is an argument.
    Facts and decisions are frozen values. Expected errors are data, too.
    An event never carries a fact: it makes something stale, and that is read again.
    Each key of IMDS has one of three answers: a value, absent, unknown. Unknown proves nothing and
    removes nothing.
    We remove only what carries our mark, and nothing while it is in doubt.
    The turn does everything; there is no second path to the kernel.

How to read it
    model       the kernel's objects, operations, plans: the types that all modules share
    metadata    the keys of IMDS, in one table, and the three answers
    policy, backoff, rota      what the operator wants; when to poll IMDS again, and for what
    sections    ... of one interface: the `[[interface]]` section that applies to it
    port        what we ask of a kernel, and what its answers mean
    lifecycle   the state of an interface, in one table
    bounds      what an address, a prefix or a subnet can be at all
    known       what is known of one list from all readings so far, and what of it is in doubt
    memory      ... of a whole ENI, and what an ENI cannot lose
    protocols   does the link have a family at all?
    kernel_proof    what the kernel proves about an ENI without IMDS
    lists       what IMDS lists of a family, and what is amiss with that
    evidence    the verdicts: is a family complete?
    moves       which ENI owns an address or prefix that several have a claim to
    contest     what each interface has to leave to other links of the host
    container_networks     who else manages the ENIs of this host
    treatment   which interfaces we configure, and how we treat the others
    kept        conclusions that are kept while what they were drawn from is the same
    layers -> stack -> ground    which links stand on ENIs, and which link group they are to be in
    floating    addresses that others put on a link and took away
    dhcp        which DHCP clients are waited for, and how long
    facts, polling, fights -> interface -> view      one interface, and a frozen view of it
    unlinked    ENIs without a link: what is known of those that had one
    homes       addresses that live elsewhere on the host: in containers, in VMs
    closed_main            error routes for all destinations, and what else main has
    neighbourhood          what stands beside an ENI on its host
    mtu         EC2's MTUs, on links that nobody else sets up
    firewall -> firewall_nft, firewall_iptables -> published    the firewall's rules, as nft and
                iptables-save print them, and the ports that containers publish by them
    forwarding  marks of connections for the ports that containers publish: the marks, the table
    eni_routes, eni_plan, host_plan    what should be in the kernel, for one ENI and for all
    lead, primary, egress -> leadership     who leads the host's own traffic, what the primary needs
    ownership, rule_chains, diff   what in the kernel is ours, and the operations that make it as
                planned
    operations  what an operation is about
    episodes, losses, failures       what others removed, what the kernel refused
    firewall    the rules of a firewall, and the ports that it leads to containers
    firewall_nft, firewall_iptables -> published     ... as nftables and iptables list them
    health      does an ENI work? The verdicts, as values
    packet      which packets a rule takes
    shadow      whose rule wins over ours, by the kernel's own word
    rule_walk   which rule decides on a packet, and which foreign one takes or rejects it
    reach -> lookups     by which link packets leave, by the kernel's own word
    diagnosis -> health_book     why an ENI does not work, and since when
    remedies    what mends it
    account     why an interface is as it is, for people who ask
    forwarder   what is marked on the host, and the operations on its nftables table
    outside     whose the ENIs are by the word of udev and of Multus, and which DHCP client has them
    host        all interfaces, and the facts that they share
    ways        by which links IMDS may be asked where the host's routes do not lead to it
    asking      what to ask IMDS now
    basis, earlier         what the last decision was made from, and whether it still holds; what
                earlier ones concluded
    decide -> decision, news   makes a decision; the decision as a value; what to report
    staleness, concerns -> picture     what to read again
    written -> chronicle   what we wrote and why; what happened beside the transitions: the causes,
                as news
    agenda      when the next turn is due, and why
    application the operations of a decision under way: additions first, then removals
    steps       what the turn asks of its driver, and the answers
    turn        one turn after the other, in one table; the interface for drivers
    words       objects and operations in words, in the syntax of `ip`

Conditions beside the state of an interface
    The state says how far our own work has got. These conditions are independent of it:
    overdue      it has waited for longer than the patience (lifecycle)
    shadowed     a foreign rule wins over one of ours (shadow)
    fought over  others keep removing the same thing of ours (fights)
    released     the operator told us to leave it alone; this is a treatment (releases, treatment)
    flapped      the link was down since the last decision, so the kernel removed things (facts)
    surprised    our work on it raised an exception; its previous plan stays (interface)
"""
