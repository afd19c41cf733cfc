/**
 * What servers and clients are seen by, unless they are told otherwise. The order is from the outermost to the innermost: all that
 * is logged and reported is so within the span of its call.
 */
import * as GrpcAccessLog from "./GrpcAccessLog.ts"
import * as GrpcErrorReport from "./GrpcErrorReport.ts"
import type { ClientInterceptor, ServerInterceptor } from "./GrpcInterceptor.ts"
import * as GrpcMetrics from "./GrpcMetrics.ts"
import * as GrpcTracing from "./GrpcTracing.ts"

export const server: ReadonlyArray<ServerInterceptor> = [
  GrpcTracing.server,
  GrpcMetrics.server,
  GrpcAccessLog.server,
  GrpcErrorReport.server
]

export const client: ReadonlyArray<ClientInterceptor> = [GrpcTracing.client, GrpcMetrics.client]
