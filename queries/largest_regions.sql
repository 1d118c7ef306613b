-- Largest regions: the largest connected defects of a run, each with its box in pixels of the picture.
-- A run without a pixel threshold has no masks, so no regions.
--   night   the run; the one committed last
--   count   regions; 20
WITH night AS (
    SELECT coalesce(
        max_by(run_id, (committed_at, run_id)), error('no committed run ' || getvariable('night')::VARCHAR)
    ) AS run_id
    FROM runs WHERE run_id = coalesce(getvariable('night')::VARCHAR, run_id)
),
found AS (
    SELECT category, image_uri, width::BIGINT * height AS pixels, unnest(regions) AS region
    FROM scores SEMI JOIN night USING (run_id)
)
SELECT category, region.area, region.area / pixels AS share_of_image, region.x, region.y, region.width, region.height,
    region.peak_score, image_uri
FROM found
ORDER BY region.area DESC, region.peak_score DESC, image_uri, region.y, region.x
LIMIT coalesce(getvariable('count')::INTEGER, 20);
