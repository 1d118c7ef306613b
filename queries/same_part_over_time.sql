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
part AS (
    SELECT model_id, category, part,
        max_by(pred_score, (committed_at, run_id, image_uri))
            - min_by(pred_score, (committed_at, run_id, image_uri)) AS rise
    FROM seen
    WHERE part <> '' AND part = coalesce(getvariable('part')::VARCHAR, part)
    GROUP BY ALL
    HAVING count(*) > 1 OR getvariable('part') IS NOT NULL
    ORDER BY rise DESC, model_id, category, part
    LIMIT if(getvariable('part') IS NULL, coalesce(getvariable('count')::BIGINT, 5), 1000000)
)
SELECT seen.category, seen.part, committed_at, pred_score, pred_score - lag(pred_score) OVER timeline AS change,
    pred_label, mask_area, run_id, seen.model_id, image_uri
FROM seen JOIN part
ON seen.part = part.part AND seen.model_id = part.model_id AND seen.category IS NOT DISTINCT FROM part.category
WINDOW timeline AS (PARTITION BY seen.model_id, seen.category, seen.part ORDER BY committed_at, run_id, image_uri)
ORDER BY rise DESC, seen.model_id, seen.category, seen.part, committed_at, run_id, image_uri;
