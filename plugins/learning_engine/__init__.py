"""Keeps a served language model learning from its users: feedback in, hot-swapped LoRA adapter out."""

__version__ = "0.1.0"
