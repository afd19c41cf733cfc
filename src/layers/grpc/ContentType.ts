/**
 * The content type of a request and of a response (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). grpc-js takes whatever begins with
 * "application/grpc" for gRPC, gRPC-Web's "application/grpc-web" too, which is another protocol.
 */
import type { IncomingHttpHeaders } from "node:http2"

const grpc = /^application\/grpc(?:$|[+;])/

/** Whether headers have a content type of gRPC. */
export const isGrpc = ({ "content-type": contentType }: IncomingHttpHeaders): boolean =>
  contentType !== undefined && grpc.test(contentType)

/** Takes away a content type that is not gRPC's, so that grpc-js answers HTTP 415. To be called before grpc-js sees the headers. */
export const removeOther = (headers: IncomingHttpHeaders): void => {
  const contentType = headers["content-type"]
  if (contentType !== undefined && !grpc.test(contentType)) delete headers["content-type"]
}
