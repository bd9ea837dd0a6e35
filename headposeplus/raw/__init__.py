"""Raw copies of Biwi and SynHead: their readers, the manifest, subsets, the rendering order."""
