import { assert, describe, it } from "@effect/vitest"
import { Metadata } from "@grpc/grpc-js"
import { Duration, Schema } from "effect"

import { BadRequest, ErrorInfo, RequestInfo, RetryInfo, Unknown } from "../../../src/layers/grpc/ErrorDetail.ts"
import * as Status from "../../../src/layers/grpc/Status.ts"
import * as StatusCodec from "../../../src/layers/grpc/StatusCodec.ts"

const details = [
  BadRequest({ fieldViolations: [{ field: "user_id", description: "no" }] }),
  ErrorInfo({ reason: "NO", domain: "onlinebooks", metadata: { a: "b" } }),
  RequestInfo({ requestId: "7" }),
  RetryInfo({ retryDelay: Duration.millis(1500) }),
  Unknown({ typeUrl: "type.googleapis.com/some.Other", value: Buffer.from([8, 1]) })
]

describe("a status on the wire", () => {
  it("is decoded to the same status, with all details", () => {
    const status = Status.notFound("nothing here", { details })
    assert.deepStrictEqual(StatusCodec.decode(StatusCodec.encode(status)), status)
  })

  it.prop("is decoded to the same message, except for lone surrogates", [Schema.String], ([message]) => {
    const received = StatusCodec.decode(StatusCodec.encode(Status.internal(message)))
    assert.strictEqual(received.message, message.toWellFormed())
    assert.doesNotThrow(() => encodeURI(received.message))
  })

  it("keeps other trailers", () => {
    const metadata = new Metadata()
    metadata.set("grpc-retry-pushback-ms", "50")
    const received = StatusCodec.decode(StatusCodec.encode(Status.resourceExhausted("later", { details, metadata })))
    assert.deepStrictEqual(received.metadata.getMap(), { "grpc-retry-pushback-ms": "50" })
  })

  it("is decoded without details if they are malformed", () => {
    const metadata = new Metadata()
    metadata.set("grpc-status-details-bin", Buffer.from([0xff, 0xff]))
    assert.deepStrictEqual(StatusCodec.decode({ code: 5, details: "gone", metadata }), Status.notFound("gone"))
  })

  it("has a name for each code, and Unknown for codes that gRPC does not define", () => {
    for (let code = 1; code <= 16; code++) assert.strictEqual(Status.fromCode(code, "").code, code)
    assert.strictEqual(Status.fromCode(99, "").code, 2)
  })
})
