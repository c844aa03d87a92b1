"""Makes the standard streams of the process safe: closed ones, pipes without a reader, encodings."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys

STDERR = 2
_NEAREST = {
    **{"–": "-", "—": "-", "−": "-", "…": "...", "≤": "<=", "≥": ">=", "×": "x", "·": "*"},
    **{
        "→": "->",
        "‘": "'",
        "’": "'",
        "“": '"',
        "”": '"',
        "⟨": "<",
        "⟩": ">",
        "\N{NO-BREAK SPACE}": " ",
    },
}
"""ASCII for the signs of tables and messages."""
ENCODING_ERRORS = "robustness-ascii"
"""The name of the handler for characters that a stream cannot encode."""


def _ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace the characters that cannot be encoded by similar signs, or else by their codes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = error.object[error.start : error.end]
    codes = (_NEAREST.get(c) or c.encode("ascii", "backslashreplace").decode() for c in part)
    return "".join(codes), error.end


class _Lenient(io.FileIO):
    """A file whose writes never fail: progress that nobody reads must not end an audit of hours."""

    def write(self, data: object, /) -> int:
        """Write the bytes, or drop them if that is not possible."""
        try:
            written = super().write(data)  # type: ignore[arg-type]
        except OSError:
            written = None
        return len(data) if written is None else written  # type: ignore[arg-type]


def secure() -> None:
    """Make standard output and standard error of this process safe to print to.

    Descriptors 0 to 2 that are closed are opened on the null device; the next file would get their number,
    and messages of C code would be written into it. Errors of writing to standard error are ignored.
    Characters that a stream cannot encode are replaced. Streams that are not those of the process, such as
    those of a test or a notebook, stay as they are.
    """
    _open_closed()
    codecs.register_error(ENCODING_ERRORS, _ascii)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout is sys.__stdout__:
        sys.stdout.reconfigure(errors=ENCODING_ERRORS)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _lenient(getattr(sys.stderr, "encoding", None))
        # What asks whether `sys.stderr` was replaced must find it as it was.
        sys.__stderr__ = sys.stderr  # type: ignore[misc]  # typeshed says final; Python allows it


def _open_closed() -> None:
    """Open the null device in place of closed descriptors from 0 to 2, for children too."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(opened, True)
    os.close(opened)


def _lenient(encoding: str | None) -> io.TextIOWrapper:
    """Return a text stream on standard error whose writes never fail."""
    binary = io.BufferedWriter(_Lenient(STDERR, "wb", closefd=False))
    return io.TextIOWrapper(
        binary, encoding or "utf-8", ENCODING_ERRORS, line_buffering=True, write_through=True
    )


def unread(end: SystemExit) -> bool:
    """Return whether a command was ended because nobody reads what it prints (`| head`).

    Typer and rich then exit with 1, which means here that a rule of the gate is broken.
    """
    reason = end.__context__
    return isinstance(reason, OSError) and reason.errno == errno.EPIPE


def discard_stdout() -> None:
    """Print the rest nowhere: Python would fail again when it writes it at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
