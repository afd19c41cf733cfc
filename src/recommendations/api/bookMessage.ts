/**
 * The message of a book in onlinebooks.recommendations.v1.
 */
import type { Book } from "../../domain/Book.ts"
import { numberByCategory } from "../categoryNumbers.ts"

/** The message of a book. Responses of many books per call are faster with `EncodedBook.response`. */
export const toBookMessage = ({ authors, categories, id, isbn10 = "", title, year }: Book) => ({
  id,
  title,
  authors,
  ...(year === undefined ? {} : { year }),
  isbn10,
  categories: categories.map((category) => numberByCategory.get(category)!)
})
