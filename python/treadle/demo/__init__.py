"""The demonstration: a small LSTM tells the language of a text while it reads."""
