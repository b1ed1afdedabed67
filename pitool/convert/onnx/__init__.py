"""Writes ONNX folders: a fused decoder graph straight from a checkpoint, tensor by tensor."""
