"""The files of Keras, read without Keras: hostile by assumption."""
