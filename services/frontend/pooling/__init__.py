"""Embeddings, classes and scores: requests, answers, and the way to the engine between them."""
