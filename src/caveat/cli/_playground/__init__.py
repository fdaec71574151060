"""A page to play with: a regression trained while one watches, digits that turn, and one's own model."""
