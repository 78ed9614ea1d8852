"""A gRPC server without generated code: messages are bytes. Prints its port, then what happens to calls."""

import sys
import threading
from concurrent import futures

import grpc


def say(*words):
    print(*words, flush=True)


def unary(request, context):
    received = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-initial", "first"),))
    remaining = context.time_remaining()
    context.set_trailing_metadata(
        (
            ("x-trailing", "last"),
            ("x-data-bin", received.get("x-data-bin", b"")),
            ("x-remaining-ms", str(-1 if remaining is None else int(remaining * 1000))),
            ("x-user", received.get("x-user", "")),
        )
    )
    return b"echo " + request


def collect(requests, context):
    return b",".join(requests)


def count(request, context):
    for number in range(int(request)):
        yield b"%05d" % number + b"." * 20_000
    context.set_trailing_metadata((("x-trailing", "last"),))


def chat(requests, context):
    for request in requests:
        yield b"echo " + request
    # The client has said that it sends nothing more; we still do.
    yield b"bye"


def slow(request, context):
    over = threading.Event()
    context.add_callback(over.set)
    say("began", request.decode())
    over.wait(30)
    say("ended", request.decode())
    return b"nobody hears this"


def tick(request, context):
    over = threading.Event()
    context.add_callback(over.set)
    yield b"tick"
    over.wait(30)


def fail(request, context):
    context.set_trailing_metadata((("x-trailing", "last"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "größer als 100 %\nwirklich")


METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Collect": grpc.stream_unary_rpc_method_handler(collect),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
    "Bounded": grpc.unary_unary_rpc_method_handler(slow),
    "Tick": grpc.unary_stream_rpc_method_handler(tick),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
}

server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("calls.Calls", METHODS),))
say("port", server.add_insecure_port("127.0.0.1:0"))
server.start()
# Ends with whoever started it.
sys.stdin.read()
server.stop(0)
