"""Files to frames and back; knows containers, colour and time, and no models."""
