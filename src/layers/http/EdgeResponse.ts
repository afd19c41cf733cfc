/**
 * A response that reports its end, and is written in one write.
 *
 * Effect sets `strictContentLength`, by which Node counts the body against Effect's own Content-Length and then writes the head, the
 * body and the end of a response separately. The setter is a no-op here (docs/decisions/0017-what-makes-a-call-cheap.md). With Effect's
 * setter, responses are the same and take more CPU time.
 */
import { type IncomingMessage, ServerResponse } from "node:http"

export class EdgeResponse<Request extends IncomingMessage> extends ServerResponse<Request> {
  static {
    Object.defineProperty(this.prototype, "strictContentLength", { get: () => false, set: () => {} })
  }

  /** Called with the size of the last chunk of the body, in bytes, before it is written. */
  onEnd: ((size: number) => void) | undefined = undefined

  override end(...args: Array<unknown>): this {
    const [chunk] = args
    this.onEnd?.(typeof chunk === "string" || chunk instanceof Uint8Array ? chunk.length : 0)
    // the overloads of end have no common type
    return (super.end as (...args: ReadonlyArray<unknown>) => this).apply(this, args)
  }
}
