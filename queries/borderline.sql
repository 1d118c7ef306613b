-- Borderline: the images of a run that were nearest to their image threshold, on either side of it.
-- Look at these before you move a threshold. Images without a threshold are left out.
--   night   the run; the one committed last
--   count   images on each side; 10
WITH night AS (
    SELECT coalesce(
        max_by(run_id, (committed_at, run_id)), error('no committed run ' || getvariable('night')::VARCHAR)
    ) AS run_id
    FROM runs WHERE run_id = coalesce(getvariable('night')::VARCHAR, run_id)
)
SELECT if(pred_label = 1, 'at or above', 'below') AS side, row_number() OVER nearest AS rank,
    pred_score - image_threshold AS distance, pred_score, image_threshold, category, image_uri
FROM scores SEMI JOIN night USING (run_id)
WHERE image_threshold IS NOT NULL
WINDOW nearest AS (PARTITION BY pred_label ORDER BY abs(pred_score - image_threshold), image_id)
QUALIFY rank <= coalesce(getvariable('count')::INTEGER, 10)
ORDER BY distance DESC, image_uri;
