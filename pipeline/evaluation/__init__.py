"""How well a detector does on a labelled dataset: scored as any archive is, then measured beside the paper's."""

from pipeline.evaluation.evaluate import EvaluateConfig, Evaluation, evaluate

__all__ = ["EvaluateConfig", "Evaluation", "evaluate"]
