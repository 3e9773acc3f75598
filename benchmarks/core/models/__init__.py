"""The models that more than one kind of cases measures: shapes, inputs, formulas, and their work."""
