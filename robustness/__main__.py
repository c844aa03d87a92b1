"""The process of the command line: `robustness`, or ``python -m robustness``.

It imports the commands itself, so that Ctrl-C while they are imported is no traceback.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from importlib import import_module
from typing import NoReturn

from robustness.errors import INTERRUPTED


def main() -> None:
    """Run the command line, and end this process."""
    try:
        command_line = import_module("robustness.cli")
        # Only here: a program that calls the command line must not be forked.
        import_module("robustness.cli.child_process").allow()
        command_line.main()
    except KeyboardInterrupt:
        _leave()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _leave()
        raise


def _leave() -> NoReturn:
    """End an interrupted process without Python's finalization.

    A thread of TensorFlow that still computes would abort the process in it, or keep it waiting.
    """
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
