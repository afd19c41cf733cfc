"""The page in the shape of https://realpython.com/python-microservices-grpc/, without TLS."""

import os

import grpc
from flask import Flask, render_template

from onlinebooks.recommendations.v1.recommendations_pb2 import BOOK_CATEGORY_MYSTERY, RecommendRequest
from onlinebooks.recommendations.v1.recommendations_pb2_grpc import RecommendationsServiceStub

app = Flask(__name__)

recommendations_host = os.getenv("RECOMMENDATIONS_HOST", "localhost")
recommendations_port = os.getenv("RECOMMENDATIONS_PORT", "50051")
recommendations_channel = grpc.insecure_channel(f"{recommendations_host}:{recommendations_port}")
recommendations_client = RecommendationsServiceStub(recommendations_channel)


@app.route("/")
def render_homepage():
    response = recommendations_client.Recommend(
        RecommendRequest(user_id=1, category=BOOK_CATEGORY_MYSTERY, max_results=3)
    )
    return render_template("homepage.html", books=response.books)
