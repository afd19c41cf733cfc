"""The client of gRPC's interoperability tests, on Python's grpcio.

    interop_client.py SETTINGS

SETTINGS is a JSON object with the target and, for TLS, the file ca and the server's name. Prints a JSON object with null for each case that
passed and the error for the others. The generated stubs are on PYTHONPATH.

    {"empty_unary": null, "ping_pong": "Traceback ..."}
"""

import json
import queue
import sys
import threading
import traceback

import grpc
import interop_pb2 as messages
import interop_pb2_grpc as services

INITIAL = "x-grpc-test-echo-initial"
TRAILING = "x-grpc-test-echo-trailing-bin"
LARGE_REQUEST = 271828
LARGE_RESPONSE = 314159
REQUESTS = [27182, 8, 1828, 45904]
RESPONSES = [31415, 9, 2653, 58979]
SPECIAL_MESSAGE = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
PERCENT_MESSAGES = ["100 %", "%3A is a colon", "a%20b+c", "%", "é, 源氏, 😈", "x: y, z/ä?=&;#"]
DAY = 24 * 60 * 60
GZIP = grpc.Compression.Gzip

# Far longer than any call takes: a call that hangs ends with DEADLINE_EXCEEDED.
TIMEOUT = 40

cases = {}


def case(function):
    cases[function.__name__] = function
    return function


def payload(size):
    return messages.Payload(body=bytes(size))


def large_request(**fields):
    return messages.SimpleRequest(response_size=LARGE_RESPONSE, payload=payload(LARGE_REQUEST), **fields)


def output_request(*sizes, **fields):
    parameters = [messages.ResponseParameters(size=size) for size in sizes]
    return messages.StreamingOutputCallRequest(response_parameters=parameters, **fields)


def input_request(size, **fields):
    return messages.StreamingInputCallRequest(payload=payload(size), **fields)


def equal(actual, expected):
    assert actual == expected, "%r is not %r" % (actual, expected)


def fails(call, code, message=None):
    try:
        call()
    except grpc.RpcError as error:
        equal(error.code(), code)
        if message is not None:
            equal(error.details(), message)
        return
    raise AssertionError("the call succeeded")


def sizes(responses):
    return [len(response.payload.body) for response in responses]


def assert_large(test, **options):
    response = test.UnaryCall(large_request(), **{"timeout": TIMEOUT, **options})
    equal(response.payload.body, bytes(LARGE_RESPONSE))


def truth(value):
    return messages.BoolValue(value=value)


@case
def empty_unary(test, connect):
    equal(test.EmptyCall(messages.Empty(), timeout=TIMEOUT), messages.Empty())


@case
def large_unary(test, connect):
    assert_large(test)


@case
def large_unary_compressed(test, connect):
    assert_large(test, compression=GZIP)
    assert_large(test, compression=grpc.Compression.Deflate)


@case
def client_compressed_unary(test, connect):
    expecting = large_request(expect_compressed=truth(True))
    fails(lambda: test.UnaryCall(expecting, timeout=TIMEOUT), grpc.StatusCode.INVALID_ARGUMENT)
    equal(len(test.UnaryCall(expecting, timeout=TIMEOUT, compression=GZIP).payload.body), LARGE_RESPONSE)
    plain = large_request(expect_compressed=truth(False))
    equal(len(test.UnaryCall(plain, timeout=TIMEOUT).payload.body), LARGE_RESPONSE)


@case
def client_streaming(test, connect):
    response = test.StreamingInputCall((input_request(size) for size in REQUESTS), timeout=TIMEOUT)
    equal(response.aggregated_payload_size, 74922)


@case
def client_streaming_compressed(test, connect):
    requests = (input_request(size) for size in REQUESTS)
    equal(test.StreamingInputCall(requests, timeout=TIMEOUT, compression=GZIP).aggregated_payload_size, 74922)


# grpcio compresses all messages of a call or none, so the two messages of this case are sent in two calls
@case
def client_compressed_streaming(test, connect):
    def send(size, value, **options):
        request = input_request(size, expect_compressed=truth(value))
        return test.StreamingInputCall(iter([request]), timeout=TIMEOUT, **options).aggregated_payload_size

    fails(lambda: send(27182, True), grpc.StatusCode.INVALID_ARGUMENT)
    equal(send(27182, True, compression=GZIP) + send(45904, False), 73086)


@case
def server_streaming(test, connect):
    equal(sizes(test.StreamingOutputCall(output_request(*RESPONSES), timeout=TIMEOUT)), RESPONSES)


@case
def ping_pong(test, connect):
    requests = queue.Queue()
    responses = test.FullDuplexCall(iter(requests.get, None), timeout=TIMEOUT)
    for request, response in zip(REQUESTS, RESPONSES):
        requests.put(output_request(response, payload=payload(request)))
        equal(sizes([next(responses)]), [response])
    requests.put(None)
    equal(list(responses), [])
    equal(responses.code(), grpc.StatusCode.OK)


@case
def half_duplex(test, connect):
    requests = (output_request(size) for size in RESPONSES)
    equal(sizes(test.HalfDuplexCall(requests, timeout=TIMEOUT)), RESPONSES)


@case
def empty_stream(test, connect):
    equal(list(test.FullDuplexCall(iter([]), timeout=TIMEOUT)), [])


def assert_echoed(test, initial, trailing):
    metadata = [(INITIAL, value) for value in initial] + [(TRAILING, value) for value in trailing]
    _, unary = test.UnaryCall.with_call(large_request(), metadata=metadata, timeout=TIMEOUT)
    stream = test.FullDuplexCall(
        iter([output_request(LARGE_RESPONSE, payload=payload(LARGE_REQUEST))]), metadata=metadata, timeout=TIMEOUT
    )
    equal(sizes(stream), [LARGE_RESPONSE])
    for call in [unary, stream]:
        received = [value for key, value in call.initial_metadata() if key == INITIAL]
        # HTTP/2 allows one header for each value, or one header with all values
        equal([part for value in received for part in value.split(", ")], initial)
        equal([value for key, value in call.trailing_metadata() if key == TRAILING], trailing)


@case
def custom_metadata(test, connect):
    assert_echoed(test, ["test_initial_metadata_value"], [b"\xab\xab\xab"])


@case
def binary_metadata(test, connect):
    # their base64 has zero, one and two characters of padding
    assert_echoed(test, ["one", "two"], [b"\0\1\2", b"\0\1\2\3", b"\0\1\2\3\4", b"\xff"])


def assert_status(test, message):
    status = messages.EchoStatus(code=2, message=message)
    fails(
        lambda: test.UnaryCall(messages.SimpleRequest(response_status=status), timeout=TIMEOUT),
        grpc.StatusCode.UNKNOWN,
        message,
    )
    fails(
        lambda: list(test.FullDuplexCall(iter([output_request(response_status=status)]), timeout=TIMEOUT)),
        grpc.StatusCode.UNKNOWN,
        message,
    )


@case
def status_code_and_message(test, connect):
    assert_status(test, "test status message")


@case
def special_status_message(test, connect):
    assert_status(test, SPECIAL_MESSAGE)


@case
def percent_status_messages(test, connect):
    for message in PERCENT_MESSAGES:
        assert_status(test, message)


@case
def unimplemented_method(test, connect):
    fails(lambda: test.UnimplementedCall(messages.Empty(), timeout=TIMEOUT), grpc.StatusCode.UNIMPLEMENTED)


@case
def unimplemented_service(test, connect):
    with connect() as channel:
        service = services.UnimplementedServiceStub(channel)
        fails(lambda: service.UnimplementedCall(messages.Empty(), timeout=TIMEOUT), grpc.StatusCode.UNIMPLEMENTED)


@case
def cancel_after_begin(test, connect):
    requests = queue.Queue()
    call = test.StreamingInputCall.future(iter(requests.get, None), timeout=TIMEOUT)
    call.cancel()
    equal(call.code(), grpc.StatusCode.CANCELLED)
    requests.put(None)


@case
def cancel_after_first_message(test, connect):
    requests = queue.Queue()
    sent = threading.Event()

    def messages():
        yield input_request(8)
        # grpcio requests the next message after it has sent the first
        sent.set()
        requests.get()

    call = test.StreamingInputCall.future(messages(), timeout=TIMEOUT)
    assert sent.wait(TIMEOUT)
    call.cancel()
    equal(call.code(), grpc.StatusCode.CANCELLED)
    requests.put(None)


@case
def cancel_after_headers(test, connect):
    requests = queue.Queue()
    call = test.FullDuplexCall(iter(requests.get, None), metadata=[(INITIAL, "headers")], timeout=TIMEOUT)
    requests.put(output_request(payload=payload(8)))
    equal([value for key, value in call.initial_metadata() if key == INITIAL], ["headers"])
    call.cancel()
    equal(call.code(), grpc.StatusCode.CANCELLED)
    requests.put(None)


@case
def cancel_after_first_response(test, connect):
    requests = queue.Queue()
    call = test.FullDuplexCall(iter(requests.get, None), timeout=TIMEOUT)
    requests.put(output_request(31415, payload=payload(27182)))
    equal(sizes([next(call)]), [31415])
    call.cancel()
    equal(call.code(), grpc.StatusCode.CANCELLED)
    requests.put(None)


def sleeping(test, timeout):
    requests = queue.Queue()
    requests.put(output_request(payload=payload(27182)))
    fails(
        lambda: list(test.FullDuplexCall(iter(requests.get, None), timeout=timeout)),
        grpc.StatusCode.DEADLINE_EXCEEDED,
    )
    requests.put(None)


@case
def timeout_on_sleeping_server(test, connect):
    sleeping(test, 0.001)


@case
def timeout_before_expiry(test, connect):
    assert_large(test, timeout=10)


@case
def long_timeouts(test, connect):
    for days in [25, 40, 50, 90, 36_500]:
        assert_large(test, timeout=days * DAY)


@case
def concurrent_large_unary(test, connect):
    calls = [test.UnaryCall.future(large_request(), timeout=TIMEOUT) for _ in range(200)]
    for call in calls:
        equal(len(call.result().payload.body), LARGE_RESPONSE)


@case
def rpc_soak(test, connect):
    for _ in range(100):
        assert_large(test)


@case
def channel_soak(test, connect):
    for _ in range(20):
        with connect() as channel:
            assert_large(services.TestServiceStub(channel))


def read(path):
    with open(path, "rb") as file:
        return file.read()


def main(settings):
    settings = json.loads(settings)

    def connect():
        # a separate connection for each channel
        options = [("grpc.use_local_subchannel_pool", 1)]
        if "ca" not in settings:
            return grpc.insecure_channel(settings["target"], options)
        options.append(("grpc.ssl_target_name_override", settings["name"]))
        return grpc.secure_channel(settings["target"], grpc.ssl_channel_credentials(read(settings["ca"])), options)

    outcomes = {}
    for name, function in cases.items():
        try:
            with connect() as channel:
                function(services.TestServiceStub(channel), connect)
            outcomes[name] = None
        except BaseException:
            outcomes[name] = traceback.format_exc()
    json.dump(outcomes, sys.stdout)


main(*sys.argv[1:])
