"""Chaos: a whole stack under load that is killed, stopped, cut off and set to wrong times.

In the order of reading: `storm` runs everything. `application` is what the stack runs, and `site`
starts it. `callers` put load on it by `api`, and its webhooks go to `receiver`. `strikes` break it,
and `conflicts` counts the calls that meet a transaction. `ledger` has what was acknowledged, and
`present` what is stored. `differences` compares both, and `table` prints them. `quiet` measures a
quiet tenant next to `flood`.
"""
