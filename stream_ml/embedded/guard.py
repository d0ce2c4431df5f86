"""Run a command that cannot outlive whoever started it.

Runs as a script, on the standard library alone. It becomes the command (``exec``), so the process id that the
starter knows is the command's own; a child that it forks before stays behind as the watcher.

1. The starter holds the other end of standard input and writes nothing. However it ends, SIGKILL included, the
   kernel closes that end and the watcher reads the end of the file.
2. The watcher signals its own parent only. Once the command is gone the watcher has another parent, so it
   never signals a process that took over the number.
3. Nothing here depends on the starter's threads, which a death signal of Linux (``PR_SET_PDEATHSIG``) would,
   and nothing is particular to Linux.
"""

import os
import select
import signal
import sys
import time

POLL_S = 0.5
"""How soon the watcher sees that the command has ended by itself."""

STOP_S = 10.0
"""For an orderly end after SIGTERM (a broker took 0.6-0.9 s), then SIGKILL."""


def main(command: list[str]) -> None:
    """Become `command`, a list that begins with the path of a program; does not return."""
    me = os.getpid()
    if os.fork() == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the log stays open in the command alone, see broker.py
        os.dup2(1, 2)
        _watch(me)
        os._exit(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        os.execv(command[0], command)  # noqa: S606
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


def _watch(command: int) -> None:
    while os.getppid() == command:
        readable, _, _ = select.select([0], [], [], POLL_S)
        if readable and not os.read(0, 1):
            _end(command)
            return


def _end(command: int) -> None:
    deadline = time.monotonic() + STOP_S
    _signal(command, signal.SIGTERM)
    while os.getppid() == command and time.monotonic() < deadline:
        time.sleep(POLL_S / 10)  # between two looks at the process
    _signal(command, signal.SIGKILL)


def _signal(command: int, number: int) -> None:
    if os.getppid() == command:
        os.kill(command, number)


if __name__ == "__main__":
    main(sys.argv[1:])
