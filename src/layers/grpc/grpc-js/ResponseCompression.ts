/**
 * Records which response messages were received compressed, for channels with the option `observeCompression`.
 *
 * grpc-js decompresses messages and does not expose their compressed flags. This patch wraps the method of grpc-js that reads the flag of a
 * response.
 *
 * Private members: the method `receiveMessage` of `CompressionFilter`, whose argument is a promise of the framed message.
 *
 * Needed for correctness of `MessageCompression.isCompressed`: without it, no response is reported as compressed. The tests that fail
 * then are those of `test/layers/grpc/grpc-js/ResponseCompression.test.ts`.
 */
import { CompressionFilter } from "@grpc/grpc-js/build/src/compression-filter.js"

import { markCompressed } from "../MessageCompression.ts"
import type { Patch } from "./compat.ts"

interface Filter {
  receiveMessage: (frame: Promise<Buffer>) => Promise<Buffer>
}

const prototype = CompressionFilter.prototype as unknown as Filter

export const patch: Patch = {
  name: "ResponseCompression",
  findMismatch: () => (typeof prototype.receiveMessage === "function" ? undefined : "CompressionFilter.receiveMessage"),
  apply: () => {
    const { receiveMessage } = prototype
    prototype.receiveMessage = async function (this: Filter, pending) {
      const frame = await pending
      const bytes = await receiveMessage.call(this, Promise.resolve(frame))
      if (frame[0] === 1) markCompressed(bytes)
      return bytes
    }
  },
  consequence: "no response is reported as compressed"
}
