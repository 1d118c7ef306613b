-- New categories: those of a run that no earlier run had, and those that it lacks though the run before it had them.
-- A new category has no threshold of its own yet, and a misspelt folder is one, too.
--   night   the run; the one committed last
WITH night AS (
    SELECT coalesce(
        max_by(run_id, (committed_at, run_id)), error('no committed run ' || getvariable('night')::VARCHAR)
    ) AS run_id
    FROM runs WHERE run_id = coalesce(getvariable('night')::VARCHAR, run_id)
),
this AS (SELECT run_id, committed_at FROM runs SEMI JOIN night USING (run_id)),
earlier AS (
    SELECT runs.run_id, runs.committed_at FROM runs CROSS JOIN this
    WHERE (runs.committed_at, runs.run_id) < (this.committed_at, this.run_id)
),
previous AS (SELECT max_by(run_id, (committed_at, run_id)) AS run_id FROM earlier),
per_run AS (
    SELECT run_id, category, count(*) AS images, count(image_threshold) AS with_threshold,
        count(*) FILTER (pred_label = 1) AS flagged, max(pred_score) AS highest_score
    FROM scores GROUP BY run_id, category
),
now AS (FROM per_run SEMI JOIN this USING (run_id)),
before AS (
    SELECT category, sum(images)::BIGINT AS images_before, max(committed_at) AS last_seen,
        bool_or(run_id = (SELECT run_id FROM previous)) AS was_in_previous
    FROM per_run JOIN earlier USING (run_id) GROUP BY category
)
SELECT if(before.was_in_previous IS NULL, 'new', 'gone') AS status, coalesce(now.category, before.category) AS category,
    coalesce(now.images, 0) AS images, now.with_threshold, now.flagged, now.highest_score,
    coalesce(images_before, 0) AS images_before, last_seen
FROM now FULL JOIN before ON now.category IS NOT DISTINCT FROM before.category
WHERE before.was_in_previous IS NULL OR (now.run_id IS NULL AND before.was_in_previous)
ORDER BY status DESC, category NULLS LAST;
