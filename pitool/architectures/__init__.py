"""HOST. What a ``model_type`` means, one file each: settings, tensors and mathematics.

The GGUF writer, the ONNX writer and the float32 reference read the same description. ``table``
names the families.
"""
