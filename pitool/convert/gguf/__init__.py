"""The GGUF route: families, vocabulary, writer, quantiser."""
