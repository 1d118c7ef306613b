"""The pipeline around the model: image archives in, Parquet tables out, on Ray Data.

`open_run` reads a committed run, `open_views` several by SQL; `pipeline.masks` decodes what they hold. Ray is imported
by what runs on it alone.
"""

from pipeline.runs import Run, open_run
from pipeline.views import open_views

__all__ = ["Run", "open_run", "open_views"]
