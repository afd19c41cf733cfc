/**
 * ReaderService of the current API: readers, and what they did and said (proto/onlinebooks/recommendations/v1).
 */
import { Effect, Layer, Option, Stream } from "effect"

import type { ReceivedFeedback } from "../../domain/Feedback.ts"
import { type FeedbackQuery, Readers, type RecordedFeedback, type Recording } from "../../domain/Readers.ts"
import type { Timestamp__Output } from "../../generated/v1/google/protobuf/Timestamp.ts"
import type { Feedback__Output } from "../../generated/v1/onlinebooks/recommendations/v1/Feedback.ts"
import type { ListFeedbackRequest__Output } from "../../generated/v1/onlinebooks/recommendations/v1/ListFeedbackRequest.ts"
import { ReaderService } from "../../generated/v1/services.ts"
import type { ServerInterceptor } from "../../layers/grpc/GrpcInterceptor.ts"
import * as GrpcServer from "../../layers/grpc/GrpcServer.ts"
import * as Status from "../../layers/grpc/Status.ts"
import * as PeerIdentity from "../../layers/tls/PeerIdentity.ts"
import * as TlsSettings from "../../layers/tls/TlsSettings.ts"
import { kindByNumber, numberByKind } from "../kindNumbers.ts"
import { toBookMessage } from "./bookMessage.ts"
import { statuses } from "./statusTable.ts"

/** Serves the API to clients whose certificates have one of the allowed names, or to all. */
export const layer = (allowedClients?: ReadonlySet<string>) =>
  GrpcServer.serve(
    ReaderService,
    Effect.gen(function* () {
      const readers = yield* Readers
      return {
        CreateReader: ({ requestId }) => Effect.map(readers.create(requestId), (userId) => ({ userId })),
        RecordFeedback: ({ feedback }) => Effect.map(readers.record(feedback.map(toFeedback)), toCounts),
        ImportFeedback: (requests) =>
          requests.pipe(
            Stream.mapEffect(({ feedback }) => readers.record(feedback.map(toFeedback))),
            Stream.runFold((): Recording => ({ recorded: 0, duplicates: 0, dropped: 0 }), add),
            Effect.map(toLongCounts)
          ),
        ListFeedback: (request) =>
          Effect.map(readers.list(toQuery(request)), ({ books, feedback, nextPageToken }) => ({
            feedback: feedback.map(fromFeedback),
            books: books.map(toBookMessage),
            nextPageToken
          })),
        ForgetReader: ({ userId }) =>
          Effect.map(readers.forget(userId), (deleted) => ({ deletedCount: String(deleted) }))
      }
    }),
    statuses,
    { interceptors: allowedClients === undefined ? [] : [refuseOthers(allowedClients)] }
  )

/** RECOMMENDATIONS_TLS_READER_CLIENTS. */
export const allowedClients = TlsSettings.serviceClients(
  "RECOMMENDATIONS",
  "READER",
  "The clients that may call ReaderService, by the DNS names and URIs of their certificates. Other clients are answered " +
    "PERMISSION_DENIED there, and may call the other services."
)

/** {@link layer} for {@link allowedClients}. */
export const layerConfig = Layer.unwrap(Effect.map(allowedClients, (clients) => layer(Option.getOrUndefined(clients))))

const notAllowed = Status.permissionDenied("This client may not call ReaderService")

const refuseOthers = (allowed: ReadonlySet<string>): ServerInterceptor => ({
  around: (answer, { isRejected, peer }) =>
    isRejected || PeerIdentity.isAllowed(peer.names, allowed) ? answer : Effect.fail(notAllowed)
})

const toFeedback = ({ happenedAt, kind, ...record }: Feedback__Output): ReceivedFeedback => ({
  ...record,
  kind: kindByNumber.get(kind),
  happenedAt: happenedAt === null ? undefined : toMillis(happenedAt)
})

/** Milliseconds since 1970; NaN if the nanoseconds are out of range. */
const toMillis = ({ nanos, seconds }: Timestamp__Output): number =>
  nanos >= 0 && nanos < 1_000_000_000 ? Number(seconds) * 1000 + Math.floor(nanos / 1_000_000) : Number.NaN

const toTimestamp = (millis: number) => ({
  seconds: String(Math.floor(millis / 1000)),
  nanos: (millis % 1000) * 1_000_000
})

const fromFeedback = ({
  bookId,
  feedbackId,
  happenedAt,
  kind,
  rating,
  recommendationId,
  userId
}: RecordedFeedback) => ({
  feedbackId,
  userId,
  bookId,
  kind: numberByKind.get(kind)!,
  rating: rating ?? 0,
  happenedAt: toTimestamp(happenedAt),
  recommendationId
})

const toQuery = ({
  bookIds,
  currentOnly,
  pageSize,
  pageToken,
  userId
}: ListFeedbackRequest__Output): FeedbackQuery => ({
  userId,
  // an unset field decodes to 0
  pageSize: pageSize === 0 ? undefined : pageSize,
  pageToken,
  currentOnly,
  bookIds
})

const add = (sum: Recording, { dropped, duplicates, recorded }: Recording): Recording => ({
  recorded: sum.recorded + recorded,
  duplicates: sum.duplicates + duplicates,
  dropped: sum.dropped + dropped
})

const toCounts = ({ dropped, duplicates, recorded }: Recording) => ({
  recordedCount: recorded,
  duplicateCount: duplicates,
  droppedCount: dropped
})

const toLongCounts = ({ dropped, duplicates, recorded }: Recording) => ({
  recordedCount: String(recorded),
  duplicateCount: String(duplicates),
  droppedCount: String(dropped)
})
