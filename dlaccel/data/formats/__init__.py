"""One module for each file format; docs/data.md describes them."""
