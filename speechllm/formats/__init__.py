"""Formats of published weights, turned into Hugging Face folders without running anyone's code."""
