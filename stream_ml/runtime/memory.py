"""How much memory this process may use, as its container or the machine says."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of version 2 and 1


def memory_bytes(cgroup: Path = _CGROUP) -> int:
    """Bytes of memory: those of the control group that a container sees as its own, the machine's where that is less.

    Source: the kernel's admin-guide/cgroup-v2 and cgroup-v1/memory; without a limit they say `max` or a number beyond
    any machine.
    """
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in _LIMITS:
        try:
            text = (cgroup / name).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text.isdecimal() and int(text) > 0:
            found.append(int(text))
    return min(found)
