"""csv.import: adds up the columns of a CSV file in the imports bucket."""

import os
from functools import cache

from mayfly import Effects, Job, resources, task
from mayfly.imports import Objects, import_csv


@task("csv.import", exclusive=True, max_attempts=20)
def run(job: Job, effects: Effects) -> dict[str, object]:
    """Imports the object `key` under the tenant's prefix. Payload `{key}`; see `mayfly.imports`."""
    return import_csv(job, effects, _objects())


@cache
def _objects() -> Objects:
    """Returns the store of objects; made for the first import, since most processes run none."""
    return resources.import_objects(os.environ)
