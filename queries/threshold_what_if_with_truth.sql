-- Thresholds, what if, against the truth: defects found and false alarms at other image thresholds.
-- It needs a column `defect` that says what is wrong with a part, such as --path-fields '{category}/{defect}/{name}' or
-- --keep-columns defect makes; images where it is null are left out. Over the runs of one model, an image once:
-- other bytes under an old name are another image.
--   normal       what `defect` says of a part without one; 'good'
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
    SELECT scores.category, scores.pred_score, defect <> coalesce(getvariable('normal')::VARCHAR, 'good') AS is_defect
    FROM scores SEMI JOIN model USING (model_id) JOIN runs USING (run_id)
    WHERE run_id = coalesce(getvariable('night')::VARCHAR, run_id) AND defect IS NOT NULL
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
    SELECT category, threshold, pred_score >= threshold::FLOAT AS is_flagged, is_defect FROM image CROSS JOIN candidate
)
SELECT if(grouping(category) = 1, 'all', 'category') AS scope, category, threshold,
    count(*) FILTER (is_defect) AS defects, count(*) FILTER (is_defect AND is_flagged) AS found,
    if(defects > 0, found / defects, NULL) AS recall,
    count(*) FILTER (NOT is_defect) AS normals, count(*) FILTER (NOT is_defect AND is_flagged) AS false_alarms,
    if(normals > 0, false_alarms / normals, NULL) AS false_alarm_rate,
    if(found + false_alarms > 0, found / (found + false_alarms), NULL) AS precision
FROM judged
GROUP BY GROUPING SETS ((threshold), (category, threshold))
ORDER BY scope, category NULLS LAST, threshold;
