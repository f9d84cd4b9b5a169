"""From a message on the queue to the commit of its job.

::

    invocation   the Lambda handler of a batch: visibility, heartbeat, partial batch response
    batch        the deliveries of one invocation: their order, and their threads
    request      the job that a message asks for
    delivery     one message, from the read of its job to the fate of the message
    runner       gives a delivery to Powertools, which claims, runs and completes it
    claimed      ownership by a claim that is written before the task runs
    optimistic   ownership without a claim: the commit is the first write
    failures     retry, continue, bury; and whether a message comes back
    pending      completions that wait to be committed together
    group_commit several completions as one transaction
"""
