-- Same part over time: every score of a part in the order of the runs, and how it changed from the one before.
-- A part is one URI, whatever dates stand in it (2026-11-15, 2026/11/15, 20261115), in one category; changes are taken
-- between scores of one model. What a run has under two URIs is not one part: it is left out, or refused if asked for.
--   part           this one, such as '/in/*/7.png'; those whose last score is furthest above their first
--   part_pattern   a regular expression whose first group is the part's name in image_uri: a serial number, say
--   count          parts, where none is given; 5
WITH seen AS (
    SELECT scores.model_id, scores.category, CASE
            WHEN getvariable('part_pattern') IS NOT NULL
                THEN regexp_extract(scores.image_uri, getvariable('part_pattern')::VARCHAR, 1)
            ELSE regexp_replace(  -- twice: of two dates side by side the first takes what stands between them
                regexp_replace(
                    scores.image_uri,
                    '(^|[^0-9])(?:19|20)[0-9]{2}[-_/.]?(?:0[1-9]|1[0-2])[-_/.]?(?:0[1-9]|[12][0-9]|3[01])([^0-9]|$)',
                    '\1*\2', 'g'
                ),
                '(^|[^0-9])(?:19|20)[0-9]{2}[-_/.]?(?:0[1-9]|1[0-2])[-_/.]?(?:0[1-9]|[12][0-9]|3[01])([^0-9]|$)',
                '\1*\2', 'g'
            )
        END AS part, committed_at, run_id, pred_score, pred_label, mask_area, image_uri
    FROM scores JOIN runs USING (run_id)
),
part AS (
    SELECT model_id, category, part,
        max_by(pred_score, (committed_at, run_id)) - min_by(pred_score, (committed_at, run_id)) AS rise
    FROM seen
    WHERE part <> '' AND part = coalesce(getvariable('part')::VARCHAR, part)
    GROUP BY ALL
    HAVING CASE
        WHEN getvariable('part') IS NULL THEN count(*) > 1 AND count(*) = count(DISTINCT run_id)
        WHEN count(*) > count(DISTINCT run_id)
            THEN error(part || ' has several URIs in one run, so it is no one part; part_pattern tells parts apart')
        ELSE true
    END
    ORDER BY rise DESC, model_id, category, part
    LIMIT if(getvariable('part') IS NULL, coalesce(getvariable('count')::BIGINT, 5), 1000000)
)
SELECT seen.category, seen.part, committed_at, pred_score, pred_score - lag(pred_score) OVER timeline AS change,
    pred_label, mask_area, run_id, seen.model_id, image_uri
FROM seen JOIN part
ON seen.part = part.part AND seen.model_id = part.model_id AND seen.category IS NOT DISTINCT FROM part.category
WINDOW timeline AS (PARTITION BY seen.model_id, seen.category, seen.part ORDER BY committed_at, run_id, image_uri)
ORDER BY rise DESC, seen.model_id, seen.category, seen.part, committed_at, run_id, image_uri;
