"""What can be wrong with a template or a machine, said to the person at the keyboard."""

__all__ = ["LocalError", "PortTaken", "TemplateError"]


class LocalError(Exception):
    """A problem that its reader can solve; printed without a stack trace."""


class TemplateError(LocalError):
    """The template asks for something that is wrong, or that the local runtime does not do."""

    def __init__(self, path: object, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(
            "\n".join([f"{path} cannot run here:", *(f"  - {problem}" for problem in problems)])
        )


class PortTaken(LocalError):
    """Somebody listens on the port already."""

    def __init__(self, port: int, holder: str, free: int) -> None:
        super().__init__(
            f"port {port} is taken by {holder} (a stack takes its port and the next one); stop "
            f"it, or choose another port: make run PORT={free}"
        )
