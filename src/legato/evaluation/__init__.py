"""How faithful, how steady, how fast: measured, not claimed."""
