"""The service in the shape of https://realpython.com/python-microservices-grpc/, with a file of books, without TLS."""

import csv
import os
import random
from concurrent import futures

import grpc

from onlinebooks.recommendations.v1 import recommendations_pb2_grpc
from onlinebooks.recommendations.v1.recommendations_pb2 import (
    Book,
    BookCategory,
    CategorySummary,
    ListCategoriesResponse,
    RecommendResponse,
)


def read_book(row):
    return Book(
        id=int(row["id"]),
        title=row["title"],
        authors=[author.strip() for author in row["authors"].split(",")],
        year=int(row["year"]) if row["year"] else None,
        isbn10=row["isbn10"],
        categories=[BookCategory.Value(f"BOOK_CATEGORY_{name}") for name in row["categories"].split(";")],
    )


with open(os.getenv("CATALOG_FILE", "data/books.csv"), encoding="utf-8", newline="") as file:
    all_books = [read_book(row) for row in csv.DictReader(file)]

books_by_category = {}
for category in BookCategory.values():
    books = [book for book in all_books if category in book.categories]
    if books:
        books_by_category[category] = books


class RecommendationsService(recommendations_pb2_grpc.RecommendationsServiceServicer):
    def Recommend(self, request, context):
        if request.user_id < 0 or request.max_results < 0:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "user_id and max_results have to be 0 or above")
        if request.category == 0:
            books = all_books
        elif request.category in books_by_category:
            books = books_by_category[request.category]
        else:
            context.abort(grpc.StatusCode.NOT_FOUND, "Category not found")

        num_results = min(request.max_results or 10, 100, len(books))
        return RecommendResponse(books=random.sample(books, num_results))

    def ListCategories(self, request, context):
        return ListCategoriesResponse(
            categories=[
                CategorySummary(category=category, book_count=len(books))
                for category, books in books_by_category.items()
            ]
        )


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=10))
    recommendations_pb2_grpc.add_RecommendationsServiceServicer_to_server(RecommendationsService(), server)
    port = server.add_insecure_port(f"127.0.0.1:{os.getenv('PORT', '0')}")
    server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    serve()
