"""The meaning of the layers of Keras, written as nodes of a graph."""
