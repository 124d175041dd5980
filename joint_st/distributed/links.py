"""A connection from each process to process 0, which lasts from before the start of JAX until the end.

The connections show which processes are there and which are gone: the system closes them when a process ends for
whatever reason, and when a host no longer answers. JAX's own service does not say which processes are missing, and when
process 0 learns of a dead one, it aborts without a message.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator

from joint_st.distributed.process_spec import ProcessSpec
from joint_st.errors import UserError

START_SECONDS = 300
"""Time limit for all processes to start."""
PATIENCE_SECONDS = 10
"""Seconds that the other processes wait longer than process 0, which knows the missing ones."""
SILENT_SECONDS = 50
"""Seconds after which a silent process, or a host that acknowledges nothing, counts as dead."""
LONGEST = 1 << 20
"""Most bytes of a message."""


class Link:
    """A connection to another process that carries messages, which are small JSON objects, in both directions."""

    def __init__(self, connection: socket.socket):
        self._connection = connection
        self._read = b""
        idle, between, times = SILENT_SECONDS // 2, SILENT_SECONDS // 10, 5
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            ("TCP_KEEPIDLE", idle),
            ("TCP_KEEPINTVL", between),
            ("TCP_KEEPCNT", times),
            ("TCP_USER_TIMEOUT", SILENT_SECONDS * 1000),
        ):
            if hasattr(socket, option):  # Linux has all of these options
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def send(self, message: dict) -> None:
        """Send a message; do nothing where the other process is gone."""
        try:
            self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            pass

    def receive(self, until: float | None = None) -> dict | None:
        """Return the next message; None where the connection has ended. Raises `TimeoutError` at the time `until`.

        until: a time of the clock `time.monotonic`.
        """
        while b"\n" not in self._read:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            self._connection.settimeout(left)
            try:
                more = self._connection.recv(1 << 16)
            except TimeoutError:
                # The system also raises this for a host that does not answer.
                if until is not None:
                    raise
                return None
            except OSError:
                return None
            if not more or len(self._read) > LONGEST:
                return None
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        try:
            return json.loads(line)
        except ValueError:
            return None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def rendezvous(spec: ProcessSpec, seconds: float = START_SECONDS) -> tuple[tuple[str, ...], dict[int, Link]]:
    """Wait until all processes have started; return their hosts, and this process's links by the process at the other
    end.

    Raises `UserError`, which names the missing ones, if some have not started in time.
    """
    return _gather(spec, seconds) if spec.index == 0 else _join(spec, seconds)


def _gather(spec: ProcessSpec, seconds: float) -> tuple[tuple[str, ...], dict[int, Link]]:
    """On process 0, wait for the others."""
    until = time.monotonic() + seconds
    hosts, links, why = {0: socket.gethostname()}, {}, ""
    came = []
    try:
        with _listen(spec.coordinator) as listener:
            while len(hosts) < spec.count and not why:
                listener.settimeout(max(until - time.monotonic(), 0.001))
                try:
                    link = Link(listener.accept()[0])
                    # A stranger that connects to the port must not keep the others waiting.
                    hello = link.receive(time.monotonic() + 5)
                except TimeoutError:
                    if time.monotonic() >= until:
                        break
                    continue
                if not isinstance(hello, dict) or not hello.keys() >= {"process", "processes", "host"}:
                    link.close()
                    continue
                came.append(link)
                why = _misfit(spec, hello, hosts)
                if not why:
                    hosts[hello["process"]], links[hello["process"]] = hello["host"], link
    except OSError as error:
        why = os.strerror(error.errno)
        raise UserError(f"--coordinator {spec.coordinator}: {why}; choose another port") from error
    missing = [index for index in range(spec.count) if index not in hosts]
    if missing and not why:
        here = ", ".join(f"{index} on {host}" for index, host in sorted(hosts.items())[:8])
        why = (
            f"{_list(missing)} of {spec.count} not there after {seconds:g} s (there: {here}"
            f"{', ...' if len(hosts) > 8 else ''}); start all of them, each able to reach {spec.coordinator}"
        )
    if why:
        for link in came:
            link.send({"failed": why})
        raise UserError(why)
    everyone = tuple(hosts[index] for index in range(spec.count))
    for link in links.values():
        link.send({"hosts": everyone})
    return everyone, links


def _join(spec: ProcessSpec, seconds: float) -> tuple[tuple[str, ...], dict[int, Link]]:
    """On another process, find process 0, and wait until it says that all are there."""
    until = time.monotonic() + seconds + PATIENCE_SECONDS
    address, _, port = spec.coordinator.rpartition(":")
    me = f"process {spec.index} on {socket.gethostname()}"
    answer = None
    for connection in _attempts(address.strip("[]"), int(port), until):
        link = Link(connection)
        link.send({"process": spec.index, "processes": spec.count, "host": socket.gethostname()})
        try:
            answer = link.receive(until)
        except TimeoutError:
            break
        if answer:
            break
        link.close()  # refused by something that listened there before process 0
    if not answer:
        raise UserError(
            f"{me}: process 0 did not answer at {spec.coordinator} for {seconds + PATIENCE_SECONDS:g} s; start it, "
            "and see that this address can be reached from here"
        )
    if "failed" in answer:
        raise SystemExit(2)  # process 0 prints the reason
    return tuple(answer["hosts"]), {0: link}


def _attempts(address: str, port: int, until: float) -> Iterator[socket.socket]:
    while time.monotonic() < until:
        try:
            yield socket.create_connection((address, port), timeout=10)
        except OSError:
            pass
        time.sleep(0.2)


def _listen(coordinator: str) -> socket.socket:
    address, _, port = coordinator.rpartition(":")
    if is_local(address):
        return socket.create_server(("127.0.0.1", int(port)), backlog=1024)
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    return socket.create_server(("", int(port)), family=family, backlog=1024, dualstack_ipv6=both)


def is_local(address: str) -> bool:
    """Return whether an address cannot be reached from other machines."""
    return address == "localhost" or address.startswith("127.")


def _misfit(spec: ProcessSpec, hello: dict, hosts: dict[int, str]) -> str:
    """Return why a process that connects cannot belong to this job; empty where it can."""
    index, host = hello["process"], hello["host"]
    if hello["processes"] != spec.count:
        return (
            f"process {index} on {host}: started as one of {hello['processes']}, and process 0 on {hosts[0]} as one "
            f"of {spec.count}; say the same --processes everywhere"
        )
    if index in hosts:
        return f"process {index} is on {host} and on {hosts[index]}; give each its own --process"
    return ""


def _list(indices: list[int]) -> str:
    """Return processes in words: `processes 1, 2-5`."""
    spans: list[list[int]] = []
    for index in indices:
        if spans and spans[-1][-1] == index - 1:
            spans[-1][1:] = [index]
        else:
            spans.append([index])
    shown = ", ".join("-".join(map(str, span)) for span in spans[:20]) + (", ..." if len(spans) > 20 else "")
    return f"process{'es' * (len(indices) > 1)} {shown}"
