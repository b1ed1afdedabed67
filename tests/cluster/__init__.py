"""Clusters: boards on loopback ports, llama.cpp's own RPC backend between them."""
