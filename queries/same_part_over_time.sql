-- Same part over time: every score of a part in the order of the runs, and how it changed from the one before.
-- A part is what its file's name says, in its category; changes are taken between scores of one model.
--   part           this one; those whose last score is furthest above their first
--   part_pattern   a regular expression whose first group is the part's name in image_uri; the file's name, no ending
--   count          parts, where none is given; 5
WITH seen AS (
    SELECT scores.model_id, scores.category, regexp_extract(
            scores.image_uri, coalesce(getvariable('part_pattern')::VARCHAR, '([^/#]+?)(\.[^./#]*)?$'), 1
        ) AS part, committed_at, run_id, pred_score, pred_label, mask_area, image_uri
    FROM scores JOIN runs USING (run_id)
),
compared AS (
    SELECT *, pred_score - lag(pred_score) OVER timeline AS change,
        last_value(pred_score) OVER part_whole - first_value(pred_score) OVER part_whole AS rise
    FROM seen
    WHERE part <> '' AND part = coalesce(getvariable('part')::VARCHAR, part)
    WINDOW timeline AS (PARTITION BY model_id, category, part ORDER BY committed_at, run_id, image_uri),
        part_whole AS (
            PARTITION BY model_id, category, part ORDER BY committed_at, run_id, image_uri
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        )
    QUALIFY count(*) OVER (PARTITION BY model_id, category, part) > 1 OR getvariable('part') IS NOT NULL
)
SELECT category, part, committed_at, pred_score, change, pred_label, mask_area, run_id, model_id, image_uri
FROM compared
QUALIFY dense_rank() OVER (ORDER BY rise DESC, model_id, category, part) <= if(
    getvariable('part') IS NULL, coalesce(getvariable('count')::INTEGER, 5), 1000000)
ORDER BY rise DESC, model_id, category, part, committed_at, run_id, image_uri;
