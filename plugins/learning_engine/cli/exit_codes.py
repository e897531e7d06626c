"""The exit codes and CliError. Scripts rely on the codes, so a code never changes its meaning."""

from learning_engine.errors import LearningEngineError

DONE = 0
FAILED = 1
USAGE = 2
NO_ACCESS = 3
FORBIDDEN = 4
NOT_FOUND = 5
REFUSED = 6
SERVER_ERROR = 7

MEANINGS = {
    DONE: "done",
    FAILED: "the operation failed, is unhealthy or was declined",
    USAGE: "the command line is invalid",
    NO_ACCESS: "the server cannot be reached, or there is no valid login",
    FORBIDDEN: "logged in, but without permission",
    NOT_FOUND: "not found",
    REFUSED: "the server rejected the request",
    SERVER_ERROR: "the server failed",
}
# The shell's code for a program ended by Ctrl-C.
INTERRUPTED = 130


class CliError(LearningEngineError):
    """Ends the command with `code`; the message says what was expected, what was found and what to do.

    `retryable`: the same request may succeed later.
    """

    def __init__(self, code: int, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable


def of_status(status: int) -> int:
    """The exit code for an HTTP error status."""
    if status >= 500:
        return SERVER_ERROR
    return {401: NO_ACCESS, 403: FORBIDDEN, 404: NOT_FOUND}.get(status, REFUSED if status >= 400 else NO_ACCESS)
