"""This package knows how numbers lie in memory and in files, and trusts no file."""
