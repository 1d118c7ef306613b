-- Drift: whether the scores of a run are distributed as those of the runs before it, of the same model.
-- PSI is the sum of (p - q) ln(p / q) over the deciles of the earlier scores, half an image added to each; KS is the
-- largest distance of the two cumulative distributions. Drift: PSI of 0.25 or more, or KS of 0.10 or more, and more
-- than chance gives in 1 of 100 (psi_chance, ks_chance): so with many categories now and then by chance alone. An image
-- that several of the earlier runs scored counts once in them; other bytes under an old name are another image.
--   night          the run; the one committed last
--   trailing_runs  earlier runs; 14
--   min_images     fewer on either side are not compared; 30
WITH night AS (
    SELECT coalesce(
        max_by(run_id, (committed_at, run_id)), error('no committed run ' || getvariable('night')::VARCHAR)
    ) AS run_id
    FROM runs WHERE run_id = coalesce(getvariable('night')::VARCHAR, run_id)
),
this AS (SELECT run_id, committed_at, model_id FROM runs SEMI JOIN night USING (run_id)),
earlier AS (
    SELECT runs.run_id, runs.committed_at FROM runs JOIN this USING (model_id)
    WHERE (runs.committed_at, runs.run_id) < (this.committed_at, this.run_id)
    ORDER BY runs.committed_at DESC, runs.run_id DESC LIMIT coalesce(getvariable('trailing_runs')::INTEGER, 14)
),
sample AS (
    SELECT category, pred_score AS score, 1 AS is_now FROM scores SEMI JOIN this USING (run_id)
    UNION ALL
    SELECT category, pred_score, 0 FROM (
        SELECT category, pred_score FROM scores JOIN earlier USING (run_id)
        QUALIFY row_number() OVER (PARTITION BY image_id, content_hash ORDER BY committed_at DESC, run_id DESC) = 1
    )
),
grouped AS (
    SELECT 'all' AS scope, NULL AS category, score, is_now FROM sample UNION ALL
    SELECT 'category', category, score, is_now FROM sample
),
size AS (
    SELECT scope, category, count(*) FILTER (is_now = 1) AS images, count(*) FILTER (is_now = 0) AS before,
        list_distinct(
            quantile_disc(score, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]) FILTER (is_now = 0)
        ) AS deciles,
        avg(score) FILTER (is_now = 1) AS mean_score, avg(score) FILTER (is_now = 0) AS mean_before
    FROM grouped GROUP BY scope, category
),
enough AS (FROM size WHERE least(images, before) >= coalesce(getvariable('min_images')::INTEGER, 30)),
compared AS (
    SELECT grouped.*, deciles FROM grouped JOIN enough
    ON grouped.scope = enough.scope AND grouped.category IS NOT DISTINCT FROM enough.category
),
counted AS (  -- a part's number is how many deciles lie below its scores
    SELECT scope, category, length(list_filter(deciles, lambda decile: decile < score)) AS part,
        count(*) FILTER (is_now = 1) AS now, count(*) FILTER (is_now = 0) AS before
    FROM compared GROUP BY ALL
),
part AS (  -- empty ones, too
    SELECT wanted.scope, wanted.category, coalesce(now, 0) + 0.5 AS now, coalesce(before, 0) + 0.5 AS before
    FROM (SELECT scope, category, unnest(range(length(deciles) + 1)) AS part FROM enough) AS wanted
    LEFT JOIN counted ON wanted.scope = counted.scope AND wanted.part = counted.part
        AND wanted.category IS NOT DISTINCT FROM counted.category
),
psi AS (
    SELECT scope, category, count(*) - 1 AS freedom, sum((p - q) * ln(p / q)) AS psi
    FROM (
        SELECT scope, category, now / sum(now) OVER side AS p, before / sum(before) OVER side AS q
        FROM part WINDOW side AS (PARTITION BY scope, category)
    ) GROUP BY scope, category
),
ks AS (
    SELECT scope, category, max(abs(now / total_now - before / total_before)) AS ks
    FROM (
        SELECT scope, category, sum(now) OVER up_to AS now, sum(before) OVER up_to AS before,
            sum(now) OVER side AS total_now, sum(before) OVER side AS total_before
        FROM (
            SELECT scope, category, score, count(*) FILTER (is_now = 1) AS now, count(*) FILTER (is_now = 0) AS before
            FROM compared GROUP BY scope, category, score
        )
        WINDOW side AS (PARTITION BY scope, category), up_to AS (PARTITION BY scope, category ORDER BY score)
    ) GROUP BY scope, category
),
measured AS (  -- chance: the 99 % point of χ² (by Wilson and Hilferty), and of Kolmogorov's distribution
    SELECT size.*, psi, freedom * (1 - 2 / (9 * freedom) + 2.3263 * sqrt(2 / (9 * freedom))) ** 3
            * (1 / images + 1 / before) AS psi_chance,
        ks, if(ks IS NULL, NULL, 1.6276 * sqrt(1 / images + 1 / before)) AS ks_chance
    FROM size
    LEFT JOIN psi ON size.scope = psi.scope AND size.category IS NOT DISTINCT FROM psi.category
    LEFT JOIN ks ON size.scope = ks.scope AND size.category IS NOT DISTINCT FROM ks.category
)
SELECT scope, category, CASE
        WHEN psi IS NULL THEN 'too few images'
        WHEN psi >= greatest(0.25, psi_chance) OR ks >= greatest(0.10, ks_chance) THEN 'drift'
        ELSE 'stable'
    END AS verdict, images, before, mean_score, mean_before, psi, psi_chance, ks, ks_chance
FROM measured
WHERE images > 0
ORDER BY scope, verdict = 'drift' DESC, psi DESC NULLS LAST, category NULLS LAST;
