"""The names that the author of a task uses.

::

    task         the decorator, and what it declares
    effects      the writes to make if the job succeeds
    outcomes     the errors that retry, bury or continue a job
    discovery    finds the tasks of a package or a folder
    payloads     schemas of payloads that tasks declare, and the check of a payload
    payload_types, payload_source   make a schema of a dataclass, and of its source
    built_in     tasks of the library
"""
