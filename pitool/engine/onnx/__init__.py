"""Runs an ONNX folder on plain onnxruntime."""

from pitool.engine.onnx.engine import Onnx as Onnx
