"""Thresholds from committed scores: at a rate of false alarms on normal images, or at F1-max on labelled ones."""

from pipeline.calibration.calibrate import Calibration, calibrate
from pipeline.calibration.config import CalibrateConfig

__all__ = ["CalibrateConfig", "Calibration", "calibrate"]
