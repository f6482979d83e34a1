"""A little driving world, rendered: every frame is a function of (seed, time)."""
