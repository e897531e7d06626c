"""The study on a real chat model: ways to train it, and what they are compared by."""
