/**
 * The service on nice-grpc, as its README has it: https://github.com/deeplay-io/nice-grpc/tree/master/packages/nice-grpc
 */
import { createServer, ServerError, Status } from "nice-grpc"

import { draw, load } from "./catalogue.ts"
import {
  type Book,
  type BookCategory,
  RecommendationsServiceDefinition,
  type RecommendationsServiceImplementation
} from "./generated/nice-grpc/onlinebooks/recommendations/v1/recommendations.ts"

const { all, byCategory } = load(process.env["CATALOG_FILE"] ?? "data/books.csv")

const recommendations: RecommendationsServiceImplementation = {
  async recommend({ category, maxResults, userId }) {
    if (userId < 0 || maxResults < 0) {
      throw new ServerError(Status.INVALID_ARGUMENT, "user_id and max_results have to be 0 or above")
    }
    const shelf = category === 0 ? all : byCategory.get(category)
    if (shelf === undefined) throw new ServerError(Status.NOT_FOUND, "Category not found")
    // a catalogue has categories as numbers, and the message as the numbers that there are
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

const server = createServer()
server.add(RecommendationsServiceDefinition, recommendations)
const port = await server.listen(`127.0.0.1:${process.env["PORT"] ?? 0}`)
console.log(`listening on 127.0.0.1:${port}`)
