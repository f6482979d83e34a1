"""Correspondences between frames: pure geometry on tensors."""
