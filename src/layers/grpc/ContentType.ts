/**
 * The content type of gRPC requests and responses (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
 */
import type { IncomingHttpHeaders } from "node:http2"

const grpc = /^application\/grpc(?:$|[+;])/

/** Whether headers have the content type of gRPC. gRPC-Web is not accepted. */
export const isGrpc = ({ "content-type": contentType }: IncomingHttpHeaders): boolean =>
  contentType !== undefined && grpc.test(contentType)
