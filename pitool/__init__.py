"""pitool: from a Hugging Face checkpoint to a chat on a Raspberry Pi."""

__version__ = "0.1.0"
