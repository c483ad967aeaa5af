"""Metrics, and the runner that measures a task on a manifest."""
