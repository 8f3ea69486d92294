"""The pure core: facts in, decisions out.

The rules of this house
    No I/O, no clock, no asyncio, no logging; the standard library only. Time is an argument.
    Facts and decisions are frozen values. An error that is part of life is data, too.
    An event never carries a fact: it makes something stale, and that is read again.
    A key of IMDS has three answers: a value, absent, unknown. Unknown proves nothing and removes
    nothing.
    Nothing is removed without a mark of ours on it, and nothing on a doubt.
    One turn does everything; there is no second way to the kernel.

How to read it
    model       the kernel's objects, operations, plans: the words for everything below
    metadata    IMDS's keys, in one table, and its three answers
    policy, backoff    what the operator wants; when to ask IMDS again
    port        what is asked of a kernel, and what its answers mean
    lifecycle   the state of an interface, in one table
    memory      what is known of an ENI from all readings so far, and what of it is doubted
    evidence    is a family complete? The verdicts
    moves       an address belongs to one ENI at a time: to which
    treatment   is an interface ours to configure? The rules for that
    facts, polling, fights -> interface -> view      one interface, and a frozen view of it
    eni_plan, host_plan    what there should be in the kernel, for one ENI and for all
    neighbourhood          what stands beside an ENI on its host
    ownership, rule_chains, diff   what there is of ours, and the operations that lead to the plans
    losses, failures, shadow   what others took, what the kernel refused, whose rule wins
    host        all interfaces, and the facts that they share
    decide -> decision, news   one decision, the value that it leaves behind, and what is told
    staleness, picture     what to read again
    agenda      when to come back, and why
    application the operations of a decision on their way: additions first, then removals
    steps       what the loop asks of its driver, and the answers
    turn        the loop over all of it, in one table; the edge that drivers use
    words       how objects are called for people, in the syntax of `ip`

What is not in the state of an interface
    The state says how far our own work is. These conditions stand beside it:
    overdue     it has waited for longer than the patience (lifecycle)
    shadowed    a foreign rule wins over one of ours (shadow)
    contested   others remove the same thing of ours again and again (fights)
    released    the operator took it from us; that is a treatment (releases, treatment)
    flapped     the link was down since the last decision, so the kernel removed things (facts)
    surprised   judging or planning it raised an exception; its plan from before stands (interface)
"""
