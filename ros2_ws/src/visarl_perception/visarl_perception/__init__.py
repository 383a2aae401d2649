"""Camera, saliency and encoder nodes."""
