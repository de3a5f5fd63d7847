"""Image sources, their decoding and splitting, planted scenes, batches."""
