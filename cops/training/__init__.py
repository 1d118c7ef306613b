"""What CoPS learns, and from which losses. `pipeline.training` runs it over a dataset."""
