"""The server of gRPC's interoperability tests, on Python's grpcio.

    interop_server.py SETTINGS

SETTINGS is a JSON object with the files cert and key, or an empty one for plaintext. Prints the port on which it listens, and serves
until it is killed. The generated stubs are on PYTHONPATH.
"""

import json
import sys
import time
from concurrent import futures

import grpc
import interop_pb2 as messages
import interop_pb2_grpc as services

INITIAL = "x-grpc-test-echo-initial"
TRAILING = "x-grpc-test-echo-trailing-bin"
CODES = {code.value[0]: code for code in grpc.StatusCode}


def echo_metadata(context):
    metadata = context.invocation_metadata()
    initial = [(key, value) for key, value in metadata if key == INITIAL]
    if initial:
        context.send_initial_metadata(initial)
    trailing = [(key, value) for key, value in metadata if key == TRAILING]
    if trailing:
        context.set_trailing_metadata(trailing)


def payload(size):
    return messages.Payload(body=bytes(size))


def respond(request, context):
    if request.HasField("response_status"):
        context.abort(CODES[request.response_status.code], request.response_status.message)
    for parameters in request.response_parameters:
        time.sleep(parameters.interval_us / 1e6)
        if not parameters.compressed.value:
            context.disable_next_message_compression()
        yield messages.StreamingOutputCallResponse(payload=payload(parameters.size))


def wants_compression(request):
    return any(parameters.compressed.value for parameters in request.response_parameters)


class TestService(services.TestServiceServicer):
    def EmptyCall(self, request, context):
        return messages.Empty()

    def UnaryCall(self, request, context):
        if request.response_compressed.value:
            context.set_compression(grpc.Compression.Gzip)
        echo_metadata(context)
        if request.HasField("response_status"):
            context.abort(CODES[request.response_status.code], request.response_status.message)
        return messages.SimpleResponse(payload=payload(request.response_size))

    def StreamingInputCall(self, requests, context):
        return messages.StreamingInputCallResponse(
            aggregated_payload_size=sum(len(request.payload.body) for request in requests)
        )

    def StreamingOutputCall(self, request, context):
        if wants_compression(request):
            context.set_compression(grpc.Compression.Gzip)
        echo_metadata(context)
        yield from respond(request, context)

    def FullDuplexCall(self, requests, context):
        echo_metadata(context)
        for request in requests:
            yield from respond(request, context)

    def HalfDuplexCall(self, requests, context):
        for request in list(requests):
            yield from respond(request, context)

    # UnimplementedCall is inherited from the base class, which responds with UNIMPLEMENTED


def read(path):
    with open(path, "rb") as file:
        return file.read()


def main(settings):
    settings = json.loads(settings)
    # each open call needs a thread
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=200))
    services.add_TestServiceServicer_to_server(TestService(), server)
    if "cert" in settings:
        credentials = grpc.ssl_server_credentials([(read(settings["key"]), read(settings["cert"]))])
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


main(*sys.argv[1:])
