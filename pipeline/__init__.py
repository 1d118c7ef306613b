"""The pipeline around the model: image archives in, Parquet tables out, on Ray Data.

`open_run` reads committed runs; `pipeline.masks` decodes what they hold. Ray is imported by what runs on it alone.
"""

from pipeline.runs import Run, open_run

__all__ = ["Run", "open_run"]
