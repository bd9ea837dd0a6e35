"""The scoreboard: entries, pages, published rows."""
