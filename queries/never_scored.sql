-- Never scored: images in quarantine that no later run could score either, by whatever model.
-- scored_before tells of those that an earlier run had scored: the file was damaged or lost since. A shard that cannot
-- be opened stands for all images in it, and stays here: once mended its images are scored under names of their own.
WITH bad AS (
    SELECT image_id, count(DISTINCT run_id) AS runs, min(committed_at) AS first_seen, max(committed_at) AS last_seen,
        max_by(stage, (committed_at, run_id)) AS stage, max_by(reason, (committed_at, run_id)) AS reason,
        max_by(message, (committed_at, run_id)) AS message, max_by(image_uri, (committed_at, run_id)) AS image_uri
    FROM quarantine JOIN runs USING (run_id) GROUP BY image_id
),
scored AS (
    SELECT image_id, max(committed_at) AS last_scored
    FROM scores SEMI JOIN bad USING (image_id) JOIN runs USING (run_id) GROUP BY image_id
)
SELECT stage, reason, runs, first_seen, last_seen, last_scored IS NOT NULL AS scored_before, message, image_uri
FROM bad LEFT JOIN scored USING (image_id)
WHERE last_scored IS NULL OR last_scored < last_seen
ORDER BY runs DESC, first_seen, image_uri;
