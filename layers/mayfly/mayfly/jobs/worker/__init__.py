"""From a message on the queue to the commit of its job.

::

    invocation   the Lambda handler of a batch: visibility, heartbeat, partial batch response
    batch        the deliveries of one invocation: their order, and their threads
    request      the job that a message asks for
    delivery     one message, from the read of its job to the fate of the message
    runner       gives a delivery to Powertools, which claims, runs and completes it
    powertools   turns Powertools' hooks into calls of the delivery
    ownership    the right to change a job, in one of two forms:
    optimistic     the default, without a claim: the commit is the first write
    claimed        by a claim that is written before the task runs
    failures     retry, continue, bury; and whether a message comes back
    event_loop   the loop of the process, for async tasks
    pending      completions that wait to be committed together (`mayfly.jobs.group_commit`)
    deps         the dependencies of all of them
"""
