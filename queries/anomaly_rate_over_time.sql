-- Anomaly rate over time: the share of images at or above their threshold, run by run, with its 95 % interval.
-- Images without a threshold are in `images` alone. Two runs whose intervals do not meet differ by more than chance; so do
-- runs of other thresholds or models, which is why these are told.
--   category       only this one; all together
--   per_category   true: each category in a row of its own; false
WITH counted AS (
    SELECT if(
            coalesce(getvariable('per_category')::BOOLEAN, getvariable('category') IS NOT NULL), scores.category, NULL
        ) AS category, run_id, count(*) AS images, count(pred_label) AS labelled, count(*) FILTER (pred_label = 1) AS flagged,
        avg(pred_score) AS mean_score, min(image_threshold) AS lowest_threshold, max(image_threshold) AS highest_threshold
    FROM scores
    WHERE getvariable('category') IS NULL OR scores.category = getvariable('category')::VARCHAR
    GROUP BY ALL
),
wilson AS (  -- Wilson's score interval; 1.96 deviations either way
    SELECT *, flagged / nullif(labelled, 0) AS rate, 1.96 ** 2 AS square,
        (rate + square / (2 * labelled)) / (1 + square / labelled) AS middle,
        1.96 / (1 + square / labelled) * sqrt(rate * (1 - rate) / labelled + square / (4 * labelled ** 2)) AS half
    FROM counted
)
SELECT category, committed_at, run_id, images, labelled, flagged, rate, if(rate = 0, 0, middle - half) AS rate_low,
    if(rate = 1, 1, middle + half) AS rate_high,
    rate - lag(rate) OVER (PARTITION BY category, model_id ORDER BY committed_at, run_id) AS change,
    mean_score, lowest_threshold, highest_threshold, model_id
FROM wilson JOIN runs USING (run_id)
ORDER BY category NULLS LAST, committed_at, run_id;
