"""Built datasets: reading, writing, exporting, and the dataset card."""
