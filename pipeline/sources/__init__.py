"""Where images come from: four kinds of input, recognised and turned into planned images."""

from pipeline.sources.items import PlanItem, PlanRows, image_id
from pipeline.sources.recognise import Source, recognise

__all__ = ["PlanItem", "PlanRows", "Source", "image_id", "recognise"]
