"""OpenAI's interface: chat and completions, embeddings, responses."""
