/**
 * Both APIs on grpc-js with proto-loader, as in https://grpc.io/docs/languages/node/basics/.
 */
import { readFileSync } from "node:fs"

import * as grpc from "@grpc/grpc-js"
import * as protoLoader from "@grpc/proto-loader"

import { draw, load, type Row } from "./catalogue.ts"

interface RecommendRequest {
  readonly userId: number
  readonly category: number
  readonly maxResults: number
}

interface RecommendResponse {
  readonly books: ReadonlyArray<Row>
}

const catalogue = load(process.env["CATALOG_FILE"] ?? "data/books.csv")

const recommend: grpc.handleUnaryCall<RecommendRequest, RecommendResponse> = (call, callback) => {
  const { category, maxResults, userId } = call.request
  if (userId < 0 || maxResults < 0) {
    callback({ code: grpc.status.INVALID_ARGUMENT, details: "user_id and max_results must not be negative" })
    return
  }
  const books = category === 0 ? catalogue.all : catalogue.byCategory.get(category)
  if (books === undefined) {
    callback({ code: grpc.status.NOT_FOUND, details: "Category not found" })
    return
  }
  callback(null, { books: draw(books, maxResults === 0 ? 10 : Math.min(maxResults, 100)) })
}

const listCategories: grpc.handleUnaryCall<object, object> = (_call, callback) => {
  callback(null, {
    categories: [...catalogue.byCategory].map(([category, books]) => ({ category, bookCount: books.length }))
  })
}

const recommendFirst: grpc.handleUnaryCall<RecommendRequest, { recommendations: ReadonlyArray<Row> }> = (
  call,
  callback
) => {
  const { category, maxResults, userId } = call.request
  if (userId < 0 || maxResults < 1) {
    callback({
      code: grpc.status.INVALID_ARGUMENT,
      details: "user_id must not be negative, max_results must be positive"
    })
    return
  }
  // the first API numbers categories from 0
  const books = category < 3 ? catalogue.byCategory.get(category + 1) : undefined
  if (books === undefined) {
    callback({ code: grpc.status.NOT_FOUND, details: "Category not found" })
    return
  }
  callback(null, { recommendations: draw(books, Math.min(maxResults, 100)) })
}

const credentials = (): grpc.ServerCredentials => {
  const { TLS_CA_FILE, TLS_CERT_FILE, TLS_KEY_FILE } = process.env
  if (TLS_CA_FILE === undefined || TLS_CERT_FILE === undefined || TLS_KEY_FILE === undefined) {
    return grpc.ServerCredentials.createInsecure()
  }
  const pair = { private_key: readFileSync(TLS_KEY_FILE), cert_chain: readFileSync(TLS_CERT_FILE) }
  return grpc.ServerCredentials.createSsl(readFileSync(TLS_CA_FILE), [pair], true)
}

const definition = protoLoader.loadSync(
  ["onlinebooks/recommendations/v1/recommendations.proto", "recommendations.proto"],
  { includeDirs: ["proto"], defaults: true }
)
const server = new grpc.Server()
server.addService(
  definition["onlinebooks.recommendations.v1.RecommendationsService"] as grpc.ServiceDefinition,
  { Recommend: recommend, ListCategories: listCategories } as unknown as grpc.UntypedServiceImplementation
)
server.addService(
  definition["Recommendations"] as grpc.ServiceDefinition,
  { Recommend: recommendFirst } as unknown as grpc.UntypedServiceImplementation
)
server.bindAsync(`127.0.0.1:${process.env["PORT"] ?? 0}`, credentials(), (error, port) => {
  if (error !== null) throw error
  console.log(`listening on 127.0.0.1:${port}`)
})
