-- Thresholds, what if: how many images would be anomalous at other image thresholds, in all and per category.
-- Over the runs of one model, an image once: as the last of them has it; other bytes under an old name are another
-- image. Beside the labels that there are now.
--   thresholds   candidates: [0.3, 0.45]; 0.1 to 0.9
--   night        only this run; all
--   model_id     that of the run, or of the run committed last
WITH model AS (
    SELECT coalesce(
        getvariable('model_id')::VARCHAR, max_by(model_id, (committed_at, run_id)),
        error('no committed run ' || getvariable('night')::VARCHAR)
    ) AS model_id
    FROM runs WHERE run_id = coalesce(getvariable('night')::VARCHAR, run_id)
),
image AS (
    SELECT scores.category, scores.pred_score, scores.pred_label
    FROM scores SEMI JOIN model USING (model_id) JOIN runs USING (run_id)
    WHERE run_id = coalesce(getvariable('night')::VARCHAR, run_id)
    QUALIFY row_number() OVER (
        PARTITION BY scores.image_id, scores.content_hash ORDER BY committed_at DESC, run_id DESC
    ) = 1
),
candidate AS (
    SELECT unnest(coalesce(
        getvariable('thresholds')::DOUBLE[], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    )) AS threshold
),
judged AS (  -- in float32, as the pipeline does
    SELECT category, threshold, pred_score >= threshold::FLOAT AS is_flagged, pred_label FROM image CROSS JOIN candidate
)
SELECT if(grouping(category) = 1, 'all', 'category') AS scope, category, threshold, count(*) AS images,
    count(*) FILTER (is_flagged) AS flagged, flagged / images AS share, count(*) FILTER (pred_label = 1) AS flagged_now,
    count(*) FILTER (is_flagged AND pred_label = 0) AS newly_flagged,
    count(*) FILTER (NOT is_flagged AND pred_label = 1) AS no_longer_flagged
FROM judged
GROUP BY GROUPING SETS ((threshold), (category, threshold))
ORDER BY scope, category NULLS LAST, threshold;
