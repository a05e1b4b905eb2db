"""The TCP port, and that of metrics: bound before a model is looked for, listened on before any
process is started."""

from __future__ import annotations

import errno
import ipaddress
import socket
from urllib.parse import urlsplit

from octavo.shared.errors import ConfigError, ResourceBusy

BACKLOG = 2048


def bind(host: str, port: int, flag: str = "--port") -> socket.socket:
    """A bound socket that does not listen yet: until it does, clients are refused.

    Raises ResourceBusy for a port in use, naming the `flag` that chooses another, ConfigError for
    an address that is not ours.
    """
    family, address = resolve(host, port)
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _explain(error, host, port, flag) from error
    return listener


def listen(listener: socket.socket, flag: str = "--port") -> None:
    """Start to listen. Two servers may have bound the port; only the first gets this far."""
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise _explain(error, host, port, flag) from error


def url(listener: socket.socket) -> str:
    """`http://host:port`, with the port that port 0 became."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_open(url: str) -> bool:
    """Whether others than this machine may reach it."""
    return not ipaddress.ip_address(urlsplit(url).hostname or "").is_loopback


def resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """The first address of that name. Raises ConfigError where there is none."""
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"host {host!r} cannot be resolved") from error
    family, _, _, _, address = found[0]
    return family, (str(address[0]), int(address[1]))


def _explain(error: OSError, host: str, port: int, flag: str) -> ConfigError | ResourceBusy:
    if error.errno == errno.EADDRINUSE:
        return ResourceBusy(f"port {port} on {host} is in use; choose another with {flag}")
    return ConfigError(f"cannot listen on {host}:{port}: {error.strerror}")
