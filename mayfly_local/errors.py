"""Errors of a template or a machine, written for the person at the terminal."""

__all__ = ["LocalError", "MissingParameters", "PortTaken", "TemplateError"]


class LocalError(Exception):
    """A problem that the user can solve; printed without a stack trace."""


class TemplateError(LocalError):
    """The template has an error, or needs something that the local runtime does not support."""

    def __init__(self, path: object, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(
            "\n".join([f"{path} cannot run here:", *(f"  - {problem}" for problem in problems)])
        )


class MissingParameters(TemplateError):
    """Parameters of the template have no value and no default; `names` has their names."""

    def __init__(self, path: object, problems: list[str], names: list[str]) -> None:
        self.names = names
        super().__init__(
            path,
            problems
            + [
                f"parameter {name} has no default: give it with --parameter {name}=VALUE"
                for name in names
            ],
        )


class PortTaken(LocalError):
    """Another process already listens on the port."""

    def __init__(self, port: int, holder: str, free: int) -> None:
        super().__init__(
            f"port {port} is taken by {holder} (a stack takes its port and the next one); stop "
            f"it, or choose another one with --port {free}; with make: make run PORT={free}"
        )
