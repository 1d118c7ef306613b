-- Committed files: the Parquet files that the records name, for engines that find files by a pattern.
-- Save it beside the tables after each run, and join it there: docs/analytics.md says how.
SELECT run_id, committed_at, file."table", file.path, file.rows, file.num_bytes
FROM (
    SELECT run_id, committed_at, unnest(from_json(
        record::JSON -> 'files', '[{"table": "VARCHAR", "path": "VARCHAR", "rows": "BIGINT", "num_bytes": "BIGINT"}]'
    )) AS file
    FROM runs
)
ORDER BY committed_at, run_id, file."table" DESC, file.path;
