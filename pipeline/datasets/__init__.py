"""Labelled datasets in their own layouts: image, mask, label and category of every test image."""

from pipeline.datasets.catalog import DATASETS, read_dataset
from pipeline.datasets.items import Dataset, LabelledImage

__all__ = ["DATASETS", "Dataset", "LabelledImage", "read_dataset"]
