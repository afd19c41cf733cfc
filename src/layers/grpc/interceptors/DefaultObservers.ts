/**
 * The observers of servers and clients, unless others are given. The outermost is the first: what is logged and reported of a call
 * is logged and reported within its span.
 */
import type { ClientAttemptInterceptor, ClientInterceptor, ServerInterceptor } from "../GrpcInterceptor.ts"
import * as AccessLog from "./AccessLog.ts"
import * as Metrics from "./Metrics.ts"
import * as Tracing from "./Tracing.ts"

export const server: ReadonlyArray<ServerInterceptor> = [Tracing.server, Metrics.server, AccessLog.server]

export const client: ReadonlyArray<ClientInterceptor> = [Tracing.client, Metrics.client]

export const clientAttempt: ReadonlyArray<ClientAttemptInterceptor> = [Tracing.clientAttempt, Metrics.clientAttempt]
