/**
 * The service on Connect for Node over HTTP/2, as in its documentation:
 * https://connectrpc.com/docs/node/server-plugins
 */
import http2 from "node:http2"
import type { AddressInfo } from "node:net"

import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect"
import { connectNodeAdapter } from "@connectrpc/connect-node"

import { draw, load } from "./catalogue.ts"
import { RecommendationsService } from "./generated/connect-node/onlinebooks/recommendations/v1/recommendations_pb.js"

const { all, byCategory } = load(process.env["CATALOG_FILE"] ?? "data/books.csv")

const routes = (router: ConnectRouter) =>
  router.service(RecommendationsService, {
    recommend({ category, maxResults, userId }) {
      if (userId < 0 || maxResults < 0) {
        throw new ConnectError("user_id and max_results have to be 0 or above", Code.InvalidArgument)
      }
      const shelf = category === 0 ? all : byCategory.get(category)
      if (shelf === undefined) throw new ConnectError("Category not found", Code.NotFound)
      return { books: draw(shelf, Math.min(maxResults || 10, 100)) }
    },

    listCategories() {
      return { categories: Array.from(byCategory, ([category, books]) => ({ category, bookCount: books.length })) }
    }
  })

const server = http2.createServer(connectNodeAdapter({ routes }))
server.listen(Number(process.env["PORT"] ?? 0), "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${(server.address() as AddressInfo).port}`)
})
