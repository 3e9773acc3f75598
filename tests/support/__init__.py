"""Helpers that several tests share: inputs, hostile files, checks and their tolerances."""
