"""all-MiniLM-L6-v2: where the model is found, the text that it reads, and the shape of a case."""
