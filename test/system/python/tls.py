"""Calls Recommendations over TLS with encoded messages, over one channel, one step after the other.

    tls.py SETTINGS STEPS

SETTINGS is a JSON object: target; the files ca, and cert and key for mutual TLS; name, which is the name in the
server's certificate; and pid, the server's process. STEPS is a JSON array of

    {"call": "/Recommendations/Recommend", "message": "1803", "timeout": 20, "wait_for_ready": false, "gzip": false,
     "metadata": [["x-text", "a"], ["x-bytes-bin", "00ff"]]}     bytes of a -bin key in hexadecimal
    {"cancel": "/Recommendations/Recommend", "message": "1803"}      starts a call and cancels it
    {"cancel_stream": "/Echo/Expand", "message": "0a0162"}           the same, after the first response
    {"signal": "SIGSTOP"}                                            sends a signal to the server's process
    {"say": "waiting"}                                               prints a line immediately

Finally prints a line with a JSON array of the outcomes of the calls:

    {"code": "OK", "response": "0a..."}
    {"code": "UNAVAILABLE", "message": "..."}
"""

import json
import os
import signal
import sys

import grpc


def read(path):
    with open(path, "rb") as file:
        return file.read()


def outcome(call):
    try:
        return {"code": "OK", "response": call().hex()}
    except grpc.RpcError as error:
        return {"code": error.code().name, "message": error.details()}


def call(channel, step):
    method = channel.unary_unary(step["call"])
    message = bytes.fromhex(step.get("message", ""))
    metadata = [
        (key, bytes.fromhex(value) if key.endswith("-bin") else value) for key, value in step.get("metadata", [])
    ]
    return outcome(
        lambda: method(
            message,
            timeout=step.get("timeout", 20),
            wait_for_ready=step.get("wait_for_ready", False),
            metadata=metadata,
            compression=grpc.Compression.Gzip if step.get("gzip") else None,
        )
    )


def cancel(channel, step):
    future = channel.unary_unary(step["cancel"]).future(bytes.fromhex(step.get("message", "")), timeout=20)
    cancelled = future.cancel()
    return {"code": future.code().name, "cancelled": cancelled}


def cancel_stream(channel, step):
    responses = channel.unary_stream(step["cancel_stream"])(bytes.fromhex(step.get("message", "")), timeout=20)
    next(responses)
    responses.cancel()
    return {"code": responses.code().name}


def main(settings, steps):
    settings = json.loads(settings)
    credentials = grpc.ssl_channel_credentials(
        read(settings["ca"]),
        read(settings["key"]) if "key" in settings else None,
        read(settings["cert"]) if "cert" in settings else None,
    )
    outcomes = []
    options = [
        ("grpc.ssl_target_name_override", settings["name"]),
        # reconnects quickly to a server that starts while the client waits
        ("grpc.max_reconnect_backoff_ms", 200),
        ("grpc.initial_reconnect_backoff_ms", 100),
    ]
    with grpc.secure_channel(settings["target"], credentials, options) as channel:
        for step in json.loads(steps):
            if "call" in step:
                outcomes.append(call(channel, step))
            elif "cancel" in step:
                outcomes.append(cancel(channel, step))
            elif "cancel_stream" in step:
                outcomes.append(cancel_stream(channel, step))
            elif "signal" in step:
                os.kill(settings["pid"], getattr(signal, step["signal"]))
            else:
                print(step["say"], flush=True)
    print(json.dumps(outcomes))


main(*sys.argv[1:])
