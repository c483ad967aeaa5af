"""Corpora, the texts made from them, and the mixture that trains the language model."""
