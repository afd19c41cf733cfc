import type { ClientInterceptor, ServerInterceptor } from "../GrpcInterceptor.ts"
/**
 * What servers and clients are seen by, unless they are told otherwise. The order is from the outermost to the innermost: all that
 * is logged and reported is so within the span of its call.
 */
import * as AccessLog from "./AccessLog.ts"
import * as ErrorReport from "./ErrorReport.ts"
import * as Metrics from "./Metrics.ts"
import * as Tracing from "./Tracing.ts"

export const server: ReadonlyArray<ServerInterceptor> = [
  Tracing.server,
  Metrics.server,
  AccessLog.server,
  ErrorReport.server
]

export const client: ReadonlyArray<ClientInterceptor> = [Tracing.client, Metrics.client]
