"""What this command tells a person when it cannot go on."""


class PlatformError(Exception):
    """Says what went wrong and, where it is known, what to do about it."""

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\nFix: {self.fix}" if self.fix else message
