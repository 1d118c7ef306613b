-- Quarantine by reason: why images of a run could not be scored, how many, and whether that is more than usual.
-- Shares are of the images planned; share_before is that of the earlier runs together.
--   night          the run; the one committed last
--   trailing_runs  earlier runs to compare with; 14
WITH night AS (
    SELECT coalesce(
        max_by(run_id, (committed_at, run_id)), error('no committed run ' || getvariable('night')::VARCHAR)
    ) AS run_id
    FROM runs WHERE run_id = coalesce(getvariable('night')::VARCHAR, run_id)
),
this AS (SELECT run_id, committed_at, planned FROM runs SEMI JOIN night USING (run_id)),
earlier AS (
    SELECT runs.run_id, runs.planned FROM runs CROSS JOIN this
    WHERE (runs.committed_at, runs.run_id) < (this.committed_at, this.run_id)
    ORDER BY runs.committed_at DESC, runs.run_id DESC LIMIT coalesce(getvariable('trailing_runs')::INTEGER, 14)
),
before AS (SELECT stage, reason, count(*) AS images FROM quarantine SEMI JOIN earlier USING (run_id) GROUP BY ALL)
SELECT stage, reason, count(*) AS images, count(*) / (SELECT planned FROM this) AS share,
    coalesce(any_value(before.images), 0) / (SELECT nullif(sum(planned), 0) FROM earlier) AS share_before,
    min_by(message, image_uri) AS example, min(image_uri) AS example_uri
FROM quarantine SEMI JOIN this USING (run_id) LEFT JOIN before USING (stage, reason)
GROUP BY stage, reason
ORDER BY images DESC, stage, reason;
