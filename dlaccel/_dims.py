"""The letters of shapes: one letter, one meaning, in every docstring."""

DIMS = {
    "N": "samples, or rows",
    "D": "features of a row",
    "C": "classes",
    "K": "outputs, or width of a code",
    "H": "hidden features",
    "P": "parameters",
    "B": "batch",
}
