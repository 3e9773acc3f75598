"""The models that more than one kind measures: shapes, inputs, formulas, and their work."""
