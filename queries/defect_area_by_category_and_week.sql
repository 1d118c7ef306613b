-- Defect area by category and week: how many images have a mask with pixels in it, and how large it is.
-- The week, from Monday on, is that of a run's commit: a night that begins on Sunday evening and is committed on Monday
-- counts in the new week, and whole. An image that several runs of a week scored counts once, as the last of them has
-- it; other bytes under an old name are another image. Areas under different pixel thresholds are not comparable:
-- pixel_thresholds tells which there were.
--   time_zone   whose weeks: 'Europe/Berlin', say; 'UTC'
WITH image AS (
    SELECT scores.model_id, scores.category, scores.image_id,
        date_trunc('week', committed_at AT TIME ZONE coalesce(getvariable('time_zone')::VARCHAR, 'UTC'))::DATE AS week,
        pixel_threshold, mask_area, if(mask_area IS NULL, NULL, width::BIGINT * height) AS pixels
    FROM scores JOIN runs USING (run_id)
    QUALIFY row_number() OVER (
        PARTITION BY scores.model_id, week, scores.image_id, scores.content_hash ORDER BY committed_at DESC, run_id DESC
    ) = 1
)
SELECT category, week, count(*) AS images, count(mask_area) AS with_mask,
    count(*) FILTER (mask_area > 0) AS with_defect, sum(mask_area)::BIGINT AS defect_px,
    sum(mask_area) / sum(pixels) AS defect_share, median(mask_area) FILTER (mask_area > 0) AS median_defect_px,
    list_sort(list(DISTINCT pixel_threshold)) AS pixel_thresholds, model_id
FROM image
GROUP BY category, week, model_id
ORDER BY model_id, category NULLS LAST, week;
