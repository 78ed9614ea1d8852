"""Calls of every kind through the gateway whose address is the argument. Prints a line for each that went well."""

import queue
import sys
import threading
import time

import grpc

channel = grpc.insecure_channel(sys.argv[1])
SERVICE = "/calls.Calls/"


def well(name):
    print("ok", name, flush=True)


def failure(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except grpc.RpcError as error:
        return error
    raise AssertionError("it succeeded")


def unary():
    call = channel.unary_unary(SERVICE + "Unary")
    data = bytes(range(256))
    answer, state = call.with_call(b"hello", timeout=20, metadata=(("x-data-bin", data), ("x-user", "u")))
    trailing = dict(state.trailing_metadata())
    assert answer == b"echo hello", answer
    assert dict(state.initial_metadata())["x-initial"] == "first"
    assert trailing["x-trailing"] == "last", trailing
    assert trailing["x-data-bin"] == data, trailing
    assert trailing["x-user"] == "u", trailing
    # The deadline arrives as it was sent.
    assert 10_000 < int(trailing["x-remaining-ms"]) <= 20_000, trailing
    answer, state = call.with_call(b"x" * 1_000_000)
    assert len(answer) == 1_000_005
    # Without a deadline the core knows none, which Python shows as a very long time.
    assert not 0 <= int(dict(state.trailing_metadata())["x-remaining-ms"]) < 86_400_000


def client_streaming():
    answer = channel.stream_unary(SERVICE + "Collect")(iter([b"a", b"b", b"c"] * 100), timeout=20)
    assert answer == b",".join([b"a", b"b", b"c"] * 100)
    assert channel.stream_unary(SERVICE + "Collect")(iter([]), timeout=20) == b""


def server_streaming():
    call = channel.unary_stream(SERVICE + "Count")(b"300", timeout=30)
    numbers = [int(message[:5]) for message in call]
    assert numbers == list(range(300)), numbers
    assert dict(call.trailing_metadata())["x-trailing"] == "last"


def bidirectional():
    requests = queue.Queue()
    call = channel.stream_stream(SERVICE + "Chat")(iter(requests.get, None), timeout=20)
    for number in range(50):
        # Each is answered before the next is sent.
        requests.put(b"%d" % number)
        assert next(call) == b"echo %d" % number
    # Our side is closed; theirs still speaks.
    requests.put(None)
    assert next(call) == b"bye"
    assert list(call) == []
    assert call.code() == grpc.StatusCode.OK


def deadline():
    began = time.monotonic()
    error = failure(channel.unary_unary(SERVICE + "Slow"), b"deadline", timeout=1)
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert 0.9 < time.monotonic() - began < 10


def cancellation():
    call = channel.unary_unary(SERVICE + "Slow").future(b"cancel")
    threading.Timer(1, call.cancel).start()
    try:
        call.result()
        raise AssertionError("it was answered")
    except grpc.FutureCancelledError:
        pass
    assert call.code() == grpc.StatusCode.CANCELLED


def failing():
    error = failure(channel.unary_unary(SERVICE + "Fail"), b"", timeout=20)
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
    assert error.details() == "größer als 100 %\nwirklich", error.details()
    assert dict(error.trailing_metadata())["x-trailing"] == "last"
    error = failure(channel.unary_unary(SERVICE + "Unknown"), b"", timeout=20)
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error


def refused():
    for path, code, word in (
        ("/nobody.Knows/It", grpc.StatusCode.UNIMPLEMENTED, "no_route"),
        ("/closed.Calls/Unary", grpc.StatusCode.UNAVAILABLE, "connect"),
        (SERVICE + "Bounded", grpc.StatusCode.DEADLINE_EXCEEDED, "request_timeout"),
    ):
        error = failure(channel.unary_unary(path), b"bounded", timeout=20)
        assert error.code() == code, error
        assert word in error.details(), error.details()


def cut():
    call = channel.unary_stream(SERVICE + "Tick")(b"", timeout=20)
    assert next(call) == b"tick"
    error = failure(next, call)
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert "request_timeout" in error.details(), error.details()


def many():
    calls = [channel.unary_unary(SERVICE + "Unary").future(b"%d" % number, timeout=30) for number in range(500)]
    assert [call.result() for call in calls] == [b"echo %d" % number for number in range(500)]


for step in (unary, client_streaming, server_streaming, bidirectional, deadline, cancellation, failing, refused, cut, many):
    step()
    well(step.__name__)
