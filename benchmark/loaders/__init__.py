"""Crops on the device that trains: stores, and batches composed from them."""
