/**
 * Both APIs on nice-grpc, as in its README: https://github.com/deeplay-io/nice-grpc/tree/master/packages/nice-grpc
 */
import { createServer, ServerError, Status } from "nice-grpc"

import { draw, load } from "./catalogue.ts"
import {
  type Book,
  type BookCategory,
  RecommendationsServiceDefinition,
  type RecommendationsServiceImplementation
} from "./generated/nice-grpc/onlinebooks/recommendations/v1/recommendations.ts"
import {
  type RecommendationsServiceImplementation as FirstImplementation,
  RecommendationsDefinition
} from "./generated/nice-grpc/recommendations.ts"

const { all, byCategory } = load(process.env["CATALOG_FILE"] ?? "data/books.csv")

const recommendations: RecommendationsServiceImplementation = {
  async recommend({ category, maxResults, userId }) {
    if (userId < 0 || maxResults < 0) {
      throw new ServerError(Status.INVALID_ARGUMENT, "user_id and max_results have to be 0 or above")
    }
    const shelf = category === 0 ? all : byCategory.get(category)
    if (shelf === undefined) throw new ServerError(Status.NOT_FOUND, "Category not found")
    // the type of a message has the known categories, that of a catalogue any number
    return { books: draw(shelf, Math.min(maxResults || 10, 100)) as Array<Book> }
  },

  async listCategories() {
    return {
      categories: Array.from(byCategory, ([category, books]) => ({
        category: category as BookCategory,
        bookCount: books.length
      }))
    }
  }
}

const first: FirstImplementation = {
  async recommend({ category, maxResults, userId }) {
    if (userId < 0 || maxResults < 1) {
      throw new ServerError(
        Status.INVALID_ARGUMENT,
        "user_id has to be 0 or above, and max_results has to be 1 or above"
      )
    }
    // the first API numbers categories from 0
    const shelf = category < 3 ? byCategory.get(category + 1) : undefined
    if (shelf === undefined) throw new ServerError(Status.NOT_FOUND, "Category not found")
    return { recommendations: draw(shelf, Math.min(maxResults, 100)) as Array<Book> }
  }
}

const server = createServer()
server.add(RecommendationsServiceDefinition, recommendations)
server.add(RecommendationsDefinition, first)
const port = await server.listen(`127.0.0.1:${process.env["PORT"] ?? 0}`)
console.log(`listening on 127.0.0.1:${port}`)
