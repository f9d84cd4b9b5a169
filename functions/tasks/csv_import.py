"""csv.import: adds up the columns of a CSV file in the imports bucket."""

import os
from functools import cache

from mayfly import resources
from mayfly.imports import Objects, import_csv
from mayfly.jobs import Effects, Job, task


@task("csv.import", exclusive=True, max_attempts=20)
def run(job: Job, effects: Effects) -> dict[str, object]:
    """Payload `{key}`, an object under the tenant's prefix; see `mayfly.imports`."""
    return import_csv(job, effects, _objects())


@cache
def _objects() -> Objects:
    """Made for the first import of a process: most processes never see one."""
    return resources.import_objects(os.environ)
