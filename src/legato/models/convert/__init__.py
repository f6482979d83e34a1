"""Foreign weights into model folders: one file per source, never its code."""
