"""Committed results for other tools: COCO (FiftyOne, CVAT, pycocotools), Label Studio, pictures; and the way back."""
