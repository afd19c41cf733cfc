/**
 * The content type of gRPC requests and responses (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
 */
import type { IncomingHttpHeaders } from "node:http2"

const grpc = /^application\/grpc(?:$|[+;])/

/** Whether headers have the content type of gRPC. That of gRPC-Web is another one. */
export const isGrpc = ({ "content-type": contentType }: IncomingHttpHeaders): boolean =>
  contentType !== undefined && grpc.test(contentType)
