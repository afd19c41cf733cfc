/**
 * The content type of gRPC requests and responses (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
 */

/** Matches the content type of gRPC. gRPC-Web is not accepted. */
export const grpcPattern = /^application\/grpc(?:$|[+;])/
