"""Committed runs in Iceberg tables: docs/iceberg.md, and ADR 6 for why it is done this way.

Everything here but `address` needs pyiceberg, which is optional: others come in through `pipeline.publication`.
"""
