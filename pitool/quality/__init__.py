"""How good an artifact is: divergence and perplexity, from logits to figures."""
