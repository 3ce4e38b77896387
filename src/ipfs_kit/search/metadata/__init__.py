"""The metadata index: what is known about CIDs, as statements of nodes and as a table that answers questions."""
