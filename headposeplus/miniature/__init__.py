"""The miniature: procedural raw copies of Biwi and SynHead in their exact layouts."""
