-- Where on the picture: how many regions have their middle in which cell of a grid, per category.
-- A cell with far more than the others is dirt on a lens, a worn fixture, a lamp; a defect of the product wanders. Over
-- all runs of one model, an image once: as the last of them has it; other bytes under an old name are another image.
--   model_id   that of the run committed last
--   cells      cells along each side of the grid; 3
--   category   only this one; all
WITH model AS (
    SELECT coalesce(getvariable('model_id')::VARCHAR, max_by(model_id, (committed_at, run_id))) AS model_id FROM runs
),
grid AS (SELECT coalesce(getvariable('cells')::INTEGER, 3) AS cells),
image AS (
    SELECT scores.category, (scores.image_id, scores.content_hash) AS image, scores.width, scores.height, scores.regions
    FROM scores SEMI JOIN model USING (model_id) JOIN runs USING (run_id)
    WHERE scores.category IS NOT DISTINCT FROM coalesce(getvariable('category')::VARCHAR, scores.category)
    QUALIFY row_number() OVER (
        PARTITION BY scores.image_id, scores.content_hash ORDER BY committed_at DESC, run_id DESC
    ) = 1
),
region AS (SELECT category, image, width, height, unnest(regions) AS box FROM image),
placed AS (
    SELECT category, image, floor((box.x + box.width / 2) * cells / width)::INTEGER AS cell_x,
        floor((box.y + box.height / 2) * cells / height)::INTEGER AS cell_y
    FROM region CROSS JOIN grid
)
SELECT category, cell_x, cell_y, count(*) AS regions, count(DISTINCT image) AS images,
    count(*) / sum(count(*)) OVER (PARTITION BY category) AS share_of_regions
FROM placed
GROUP BY category, cell_x, cell_y
ORDER BY category NULLS LAST, regions DESC, cell_y, cell_x;
