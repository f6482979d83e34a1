"""Temporally consistent video tools built on image diffusion models."""
