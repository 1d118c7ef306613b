-- Worst of the night, per line: the images of a run with the highest scores.
-- It needs a column `line`: --path-fields '{line}/{category}/{name}' or --keep-columns line makes one in the scores.
--   night   the run; the one committed last
--   count   images for each line; 5
WITH night AS (
    SELECT coalesce(
        max_by(run_id, (committed_at, run_id)), error('no committed run ' || getvariable('night')::VARCHAR)
    ) AS run_id
    FROM runs WHERE run_id = coalesce(getvariable('night')::VARCHAR, run_id)
)
SELECT line, row_number() OVER worst AS rank, category, pred_score, image_threshold, pred_label, mask_area,
    length(regions) AS regions, image_uri
FROM scores SEMI JOIN night USING (run_id)
WINDOW worst AS (PARTITION BY line ORDER BY pred_score DESC, image_id)
QUALIFY rank <= coalesce(getvariable('count')::INTEGER, 5)
ORDER BY line NULLS LAST, rank;
