"""Recipes, the training loop, checkpoints and the stages that make a model."""
