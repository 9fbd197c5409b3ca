"""A listening socket, or one sentence about why it cannot be had: what the HTTP API and the simulator serve on.

Law kept here: 9 (a port that is taken is said at once, with what to do about it).
"""

from __future__ import annotations

import socket

from .errors import GreenroomError

BACKLOG = 2048
"""Connections that may wait to be accepted."""


class AddressUnavailable(GreenroomError):
    """The address cannot be listened on."""


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    It is a TCP socket by name: asyncio sets TCP_NODELAY only on those, and without it each small response that
    is written in two parts waits 40 ms for the client's acknowledgement of the first.

    Raises:
        AddressUnavailable: the port is in use, or the host is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = (error.strerror or str(error)).lower()
        raise AddressUnavailable(
            f"cannot listen on {host}:{port} ({reason}): stop what listens there, or choose another port"
        ) from None
    return listener
