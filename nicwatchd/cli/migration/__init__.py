"""`nicwatchd migrate`: take over from the tools that configured hot-plugged ENIs before.

How to read it
    system      the one seam to the host: files under a root directory, commands, the daemon
    traces      what the tools left in the kernel: rules by source, tables, addresses
    coverage    does nicwatchd have all of that, too?
    steps       what is done, one thing at a time, and how each is undone
    record      the steps on disk, written before each of them
    findings    a tool at work: what is to be done, what to know, and why not
    net_utils, cloud_init, nm_cloud_setup, cloud_netconfig      the tools
    survey      all of them
    progress    carrying the steps out, to the end or back
"""
