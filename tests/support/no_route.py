"""`python no_route.py COMMAND ...`: runs it where there is a loopback interface and nothing else.

To be started by `unshare --net`.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

SIOCGIFFLAGS, SIOCSIFFLAGS, UP = 0x8913, 0x8914, 1


def main() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | UP))
    routes = Path("/proc/net/route").read_text().splitlines()[1:]
    if routes:
        raise SystemExit(f"there are routes: {routes}")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
