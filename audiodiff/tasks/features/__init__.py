"""Feature vectors of recordings: extraction, probing, clustering and maps."""
