"""The socket that a server of the command listens at, and its address."""

from __future__ import annotations

import errno
import socket

from caveat.errors import InvalidArgumentError

BACKLOG = 2048
"""Connections that may wait: who comes before the server is ready waits for it."""


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens there.

    Args:
        host: Name or address of this computer.
        port: Port; 0 for any that is free.

    Raises:
        InvalidArgumentError: The port is taken, or the host is none of this computer's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(BACKLOG)
        except BaseException:
            listening.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:  # the last of a name that no host can have
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        elsewhere = "a --host that is none of this computer's, or a port below 1024 or above 65535"
        raise InvalidArgumentError(
            "A server needs an address of this computer whose port is free.",
            got=f"{host}:{port}: {getattr(error, 'strerror', None) or error}",
            cause="another server, or this one started twice" if taken else elsewhere,
            fix="--port 0 takes any that is free",
        ) from error
    listening.setblocking(False)
    return listening


def address_of(listening: socket.socket) -> str:
    """Returns where a socket listens, as a URL.

    Example:
        >>> with listen("127.0.0.1", 0) as listening:
        ...     address_of(listening).rpartition(":")[0]
        'http://127.0.0.1'
    """
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
