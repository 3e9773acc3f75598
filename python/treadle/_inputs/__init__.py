"""This package checks what callers pass and turns it into the arrays that native functions read."""
