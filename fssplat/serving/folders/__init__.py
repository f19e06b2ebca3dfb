"""How is a folder of queries predicted? It resumes, reads ahead, and writes behind."""
