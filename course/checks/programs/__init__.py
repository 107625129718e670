"""PyTorch programs that the capstones migrate, one a module, equal to those in the notebooks. Needs nothing but Python.

Lesson: 00_start_here.
"""
