__version__ = version = "0.2.0"
