# The module itself is written by the build from the version in pyproject.toml.
__version__: str
