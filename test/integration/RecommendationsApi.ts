/**
 * The current API of Recommendations, for tests that call it with this project's client.
 */
import { NodeServices } from "@effect/platform-node"
import { Layer } from "effect"

import type {
  RecommendationsServiceDefinition,
  RecommendationsServiceHandlers
} from "../../src/generated/v1/onlinebooks/recommendations/v1/RecommendationsService.ts"
import { ProjectRoot } from "../../src/layers/config/ProjectRoot.ts"
import * as GrpcService from "../../src/layers/grpc/GrpcService.ts"

export const RecommendationsService = GrpcService.make<
  RecommendationsServiceDefinition,
  RecommendationsServiceHandlers
>()({
  name: "onlinebooks.recommendations.v1.RecommendationsService",
  file: "onlinebooks/recommendations/v1/recommendations.proto"
})

export const Protos = GrpcService.ProtoFiles.layer("proto").pipe(
  Layer.provide(ProjectRoot.layer(import.meta.url, "proto/recommendations.proto")),
  Layer.provide(NodeServices.layer)
)
