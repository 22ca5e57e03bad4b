"""Index: embeddings of the training photographs, made searchable. The `index` stage."""
