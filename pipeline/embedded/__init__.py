"""How the packaged model is made: a procedural world of pictures, a small CLIP trained on it, CoPS on top."""
