"""Connections between processes: which are there, and which are gone."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from joint_st.distributed.links import rendezvous
from joint_st.distributed.process_spec import ProcessSpec
from joint_st.errors import UserError


@pytest.fixture
def address():
    """An address with a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def meeting(places, seconds=20):
    """Return what `rendezvous` returns or raises in each of some threads."""

    def one(place):
        try:
            return rendezvous(place, seconds)
        except (UserError, SystemExit) as error:
            return error

    with ThreadPoolExecutor(len(places)) as pool:
        return list(pool.map(one, places))


def close(found):
    for _, links in found:
        for link in links.values():
            link.close()


def test_all_meet_and_hear_of_an_end(address):
    found = meeting([ProcessSpec(address, 3, index) for index in (2, 0, 1)])
    two, zero, one = (links for _, links in found)
    assert {hosts for hosts, _ in found} == {(socket.gethostname(),) * 3}
    assert sorted(zero) == [1, 2] and sorted(one) == sorted(two) == [0]
    one[0].send({"failed": "ä\n", "status": 3})
    assert zero[1].receive() == {"failed": "ä\n", "status": 3}
    two[0].close()
    assert zero[2].receive() is None
    close(found)


def test_the_port_is_free_again_while_the_links_stand(address):
    """JAX's service listens on this port afterwards."""
    found = meeting([ProcessSpec(address, 2, index) for index in (0, 1)])
    socket.create_server(("127.0.0.1", int(address.split(":")[1]))).close()
    found[1][1][0].send({"still": "there"})
    assert found[0][1][1].receive() == {"still": "there"}
    close(found)


def test_missing_processes_are_named(address):
    began = time.monotonic()
    zero, three = meeting([ProcessSpec(address, 7, 0), ProcessSpec(address, 7, 3)], 1)
    host = socket.gethostname()
    assert str(zero) == (
        f"processes 1-2, 4-6 of 7 not there after 1 s (there: 0 on {host}, 3 on {host}); start all of them, each able "
        f"to reach {address}"
    )
    assert isinstance(three, SystemExit) and three.code == 2
    assert time.monotonic() - began < 10


def test_process_0_that_is_missing_is_told(address, monkeypatch):
    monkeypatch.setattr("joint_st.distributed.links.PATIENCE_SECONDS", 0.5)
    (error,) = meeting([ProcessSpec(address, 2, 1)], 0.5)
    assert str(error).startswith(f"process 1 on {socket.gethostname()}: process 0 did not answer at {address} for 1 s")


def test_a_process_that_is_there_twice_is_told(address):
    zero, one, again = meeting([ProcessSpec(address, 3, 0), ProcessSpec(address, 3, 1), ProcessSpec(address, 3, 1)])
    host = socket.gethostname()
    assert str(zero) == f"process 1 is on {host} and on {host}; give each its own --process"
    assert isinstance(one, SystemExit) and isinstance(again, SystemExit)


def test_other_numbers_of_processes_are_told(address):
    zero, one = meeting([ProcessSpec(address, 2, 0), ProcessSpec(address, 3, 1)])
    assert "process 1 on" in str(zero) and "started as one of 3" in str(zero) and "as one of 2" in str(zero)
    assert isinstance(one, SystemExit)


def test_a_port_that_is_taken_is_told():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UserError, match=f"--coordinator {address}: Address already in use; choose another port"):
            rendezvous(ProcessSpec(address, 2, 0), 1)


def test_strangers_are_ignored(address):
    place = ProcessSpec(address, 2, 0)

    def stranger():
        for nonsense in (b"GET / HTTP/1.1\r\n\r\n", json.dumps([1]).encode() + b"\n"):
            while True:
                try:
                    with socket.create_connection(("127.0.0.1", int(address.split(":")[1]))) as one:
                        one.sendall(nonsense)
                    break
                except OSError:
                    time.sleep(0.05)
        results.extend(meeting([ProcessSpec(address, 2, 1)]))

    results: list = []
    thread = threading.Thread(target=stranger)
    thread.start()
    found = rendezvous(place, 20)
    thread.join()
    assert len(found[0]) == 2 and results[0][0] == found[0]
    close([found, *results])
