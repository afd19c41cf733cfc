"""Calls Recommendations over one channel, one call after the other.

    client.py TARGET CALLS

CALLS is a JSON array. A call with the generated stubs, which are on PYTHONPATH:

    {"call": "first.Recommend", "request": {"user_id": 7}}
    {"call": "v1.Recommend", "request": {}, "gzip": true}

A call without stubs, with its encoded message in hexadecimal:

    {"path": "/Recommendations/Recommend", "message": "1801"}

A call with a stream of responses, which sends SIGTERM to a process after the first response:

    {"path": "/grpc.health.v1.Health/Watch", "message": "", "terminate": 4711}

Prints a JSON array of the outcomes, with the field names of the protos:

    {"code": "OK", "response": {...}}
    {"code": "NOT_FOUND", "message": "...", "status": the google.rpc.Status of grpc-status-details-bin, or null}
"""

import json
import os
import signal
import sys

import grpc
from google.protobuf import json_format
from google.rpc import error_details_pb2  # noqa: F401, registers the types of details for json_format
from google.rpc import status_pb2

# Far longer than any call takes: a call that hangs ends with DEADLINE_EXCEEDED.
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


def v1_catalog(method):
    def stub(channel, request):
        from onlinebooks.recommendations.v1 import recommendations_pb2 as messages
        from onlinebooks.recommendations.v1 import recommendations_pb2_grpc as services

        return getattr(services.CatalogServiceStub(channel), method), getattr(messages, method + "Request")(**request)

    return stub


STUBS = {
    "first.Recommend": first_recommend,
    "v1.Recommend": v1_recommend,
    "v1.ListCategories": v1_list_categories,
    "v1.GetBook": v1_catalog("GetBook"),
    "v1.ListBooks": v1_catalog("ListBooks"),
    "v1.SearchBooks": v1_catalog("SearchBooks"),
}


def plain(message):
    # Fields without presence are omitted if they have their default value.
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def respond(channel, call):
    if "path" in call:
        message = bytes.fromhex(call["message"])
        if "terminate" in call:
            responses = []
            for response in channel.unary_stream(call["path"])(message, timeout=TIMEOUT):
                responses.append(response.hex())
                if len(responses) == 1:
                    os.kill(call["terminate"], signal.SIGTERM)
            return responses
        return channel.unary_unary(call["path"])(message, timeout=TIMEOUT).hex()
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
