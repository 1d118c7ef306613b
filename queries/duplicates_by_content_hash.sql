-- Duplicates by content hash: pictures that lie in the archive under more than one name, byte for byte the same.
-- The same image scored by several runs is no duplicate. Copies in several categories are wrong in one of them at
-- least. score_spread, within one model, is below 0.00001 in float32 and below 0.001 in a lower precision on one device;
-- above that, something other than the picture changed a score.
--   count   pictures; 50
WITH copied AS (
    SELECT content_hash FROM scores WHERE content_hash IS NOT NULL
    GROUP BY content_hash HAVING min(image_id) <> max(image_id)
),
spread AS (
    SELECT content_hash, max(pred_score) - min(pred_score) AS spread
    FROM scores SEMI JOIN copied USING (content_hash) GROUP BY content_hash, model_id
),
image AS (  -- one row an image, whatever runs scored it
    SELECT content_hash, image_id, min(image_uri) AS image_uri, list(DISTINCT category) AS categories,
        min(committed_at) AS first_seen, max(committed_at) AS last_seen
    FROM scores SEMI JOIN copied USING (content_hash) JOIN runs USING (run_id) GROUP BY content_hash, image_id
)
SELECT count(*) AS copies, list_sort(list_distinct(flatten(list(categories)))) AS categories,
    min(first_seen) AS first_seen, max(last_seen) AS last_seen,
    (SELECT max(spread.spread) FROM spread WHERE spread.content_hash = image.content_hash) AS score_spread,
    list(image_uri ORDER BY image_uri)[:5] AS first_five, content_hash
FROM image
GROUP BY content_hash
ORDER BY copies DESC, length(list_distinct(flatten(list(categories)))) DESC, content_hash
LIMIT coalesce(getvariable('count')::INTEGER, 50);
