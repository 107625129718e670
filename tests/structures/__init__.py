"""Whole models, each in PyTorch, Flax NNX and Flax Linen: what `course.porting` is for (make test-structures)."""
