"""How well a detector does on a labelled dataset: scored as any archive is, then measured beside the paper's.

Nothing is imported here: tasks that count pixels import `counting`, and should not load a model's libraries by it.
"""
