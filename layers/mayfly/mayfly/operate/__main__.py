"""The commands, and what their failures look like."""

import argparse
import os
import sys

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from mayfly.core.errors import MayflyError
from mayfly.operate import counters, jobs, keys, sessions, webhooks

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    parser = argparse.ArgumentParser(prog="mayfly")
    features = parser.add_subparsers(required=True, metavar="COMMAND")
    keys.add_parser(features)
    jobs.add_parser(features)
    sessions.add_parser(features)
    counters.add_parser(features)
    webhooks.add_parser(features)
    options = parser.parse_args(arguments)
    if options.endpoint_url and not options.stack:
        parser.error("--endpoint-url needs --stack: which stack at that endpoint?")
    try:
        done = int(options.run(options))
        sys.stdout.flush()
        return done
    except MayflyError as problem:
        print(f"mayfly: {problem}", file=sys.stderr)
    except BrokenPipeError:  # whoever read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except NoRegionError:
        print(
            "mayfly: no AWS region is set; set AWS_REGION, or a profile that has one",
            file=sys.stderr,
        )
    except NoCredentialsError:
        print(
            "mayfly: no AWS credentials were found; set them as for any AWS command",
            file=sys.stderr,
        )
    except (BotoCoreError, ClientError) as problem:
        print(
            f"mayfly: the stack {options.stack or 'here'!r} cannot be used: {problem}",
            file=sys.stderr,
        )
    return 1


if __name__ == "__main__":
    sys.exit(main())
