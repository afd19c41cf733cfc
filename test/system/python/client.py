"""Calls Recommendations as a client in Python would, over one channel, one call after the other.

    client.py TARGET CALLS

CALLS is a JSON array. A call with the generated stubs, whose code is on PYTHONPATH, is one of

    {"call": "first.Recommend", "request": {"user_id": 7}}
    {"call": "v1.Recommend", "request": {}, "gzip": true}

and a call past them, with the bytes of its messages in hexadecimal, is

    {"path": "/Recommendations/Recommend", "messages": ["ffffff"]}

A call whose responses are a stream asks a process to leave at the first one, and is answered with all of them:

    {"path": "/grpc.health.v1.Health/Watch", "messages": [""], "terminate": 4711}

What is printed is a JSON array of what became of them, with the field names of the protos:

    {"code": "OK", "response": {...}}
    {"code": "NOT_FOUND", "message": "...", "status": the google.rpc.Status of grpc-status-details-bin, or null}
"""

import json
import os
import signal
import sys

import grpc
from google.protobuf import json_format
from google.rpc import error_details_pb2  # noqa: F401, tells json_format what an Any may hold
from google.rpc import status_pb2

# Far more than any call takes: one that hangs shows as DEADLINE_EXCEEDED.
TIMEOUT = 20


def first_recommend(channel, request):
    import recommendations_pb2 as messages
    import recommendations_pb2_grpc as services

    return services.RecommendationsStub(channel).Recommend, messages.RecommendationRequest(**request)


def v1_recommend(channel, request):
    from onlinebooks.recommendations.v1 import recommendations_pb2 as messages
    from onlinebooks.recommendations.v1 import recommendations_pb2_grpc as services

    return services.RecommendationsServiceStub(channel).Recommend, messages.RecommendRequest(**request)


def v1_list_categories(channel, request):
    from onlinebooks.recommendations.v1 import recommendations_pb2 as messages
    from onlinebooks.recommendations.v1 import recommendations_pb2_grpc as services

    return services.RecommendationsServiceStub(channel).ListCategories, messages.ListCategoriesRequest(**request)


STUBS = {
    "first.Recommend": first_recommend,
    "v1.Recommend": v1_recommend,
    "v1.ListCategories": v1_list_categories,
}


def plain(message):
    # A field that is not optional is left out where it has its default, which is no news to anyone.
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def respond(channel, call):
    if "path" in call:
        messages = [bytes.fromhex(message) for message in call["messages"]]
        if "terminate" in call:
            responses = []
            for response in channel.unary_stream(call["path"])(messages[0], timeout=TIMEOUT):
                responses.append(response.hex())
                if len(responses) == 1:
                    os.kill(call["terminate"], signal.SIGTERM)
            return responses
        if len(messages) == 1:
            return channel.unary_unary(call["path"])(messages[0], timeout=TIMEOUT).hex()
        return channel.stream_unary(call["path"])(iter(messages), timeout=TIMEOUT).hex()
    method, request = STUBS[call["call"]](channel, call["request"])
    compression = grpc.Compression.Gzip if call.get("gzip") else None
    return plain(method(request, timeout=TIMEOUT, compression=compression))


def outcome(channel, call):
    try:
        return {"code": "OK", "response": respond(channel, call)}
    except grpc.RpcError as error:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
        return {
            "code": error.code().name,
            "message": error.details(),
            "status": None if details is None else plain(status_pb2.Status.FromString(details)),
        }


def main(target, calls):
    with grpc.insecure_channel(target) as channel:
        json.dump([outcome(channel, call) for call in json.loads(calls)], sys.stdout)


main(*sys.argv[1:])
