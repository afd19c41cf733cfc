/**
 * Records views of a reader in the Recommendations of its own pod, one after the other, until some were acknowledged after others had
 * failed: `node record.mjs USER_ID` prints a JSON object of the acknowledged ids, the number of failures, and whether it came that far.
 */
import { randomUUID } from "node:crypto"
import { connect } from "node:http2"

const userId = Number(process.argv.at(-1))

/** How many have to be acknowledged after the last failure. */
const enough = 100

/** In milliseconds. */
const [interval, callTimeout, limit] = [10, 5_000, 300_000]

const varint = (value) => (value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)])
const bytes = (field, content) => Buffer.concat([Buffer.from([(field << 3) | 2, ...varint(content.length)]), content])
const integer = (field, value) => Buffer.from([field << 3, ...varint(value)])

/** A request with one Feedback: the reader has viewed the book 1. */
const frameOf = (feedbackId) => {
  const feedback = [bytes(1, Buffer.from(feedbackId)), integer(2, userId), integer(3, 1), integer(4, 2)]
  const message = bytes(1, Buffer.concat(feedback))
  const prefix = Buffer.alloc(5)
  prefix.writeUInt32BE(message.length, 1)
  return Buffer.concat([prefix, message])
}

let session

/** Resolves to the gRPC status of a call; 14 is UNAVAILABLE. */
const record = (feedbackId) =>
  new Promise((resolve) => {
    if (session === undefined || session.closed || session.destroyed) {
      session = connect("http://127.0.0.1:50051").on("error", () => {})
    }
    const stream = session.request({
      ":method": "POST",
      ":path": "/onlinebooks.recommendations.v1.ReaderService/RecordFeedback",
      "content-type": "application/grpc",
      te: "trailers",
      "grpc-timeout": `${callTimeout}m`
    })
    let status = 14
    const onHeaders = (headers) => (status = Number(headers["grpc-status"] ?? status))
    stream.on("response", onHeaders).on("trailers", onHeaders)
    stream.on("error", () => {})
    stream.on("close", () => resolve(status))
    stream.resume().end(frameOf(feedbackId))
  })

const acknowledged = []
let failed = 0
let sinceFailure = 0
const startedAt = performance.now()
while ((failed === 0 || sinceFailure < enough) && performance.now() - startedAt < limit) {
  const id = randomUUID()
  if ((await record(id)) === 0) {
    acknowledged.push(id)
    sinceFailure++
  } else {
    failed++
    sinceFailure = 0
  }
  await new Promise((resolve) => setTimeout(resolve, interval))
}
session.destroy()
console.log(JSON.stringify({ acknowledged, failed, isWhole: failed > 0 && sinceFailure >= enough }))
