-- Label sets compared: what changes between two sets of labels of one run, in all and per category.
-- jobs/label.py makes label sets; the run's own labels are the one named 'run'.
--   night    the run; the one committed last
--   before   a label set; 'run'
--   after    another; the last by name that is not `before`
WITH night AS (
    SELECT coalesce(
        max_by(run_id, (committed_at, run_id)), error('no committed run ' || getvariable('night')::VARCHAR)
    ) AS run_id
    FROM runs WHERE run_id = coalesce(getvariable('night')::VARCHAR, run_id)
),
choice AS (
    SELECT coalesce(getvariable('before')::VARCHAR, 'run') AS before, coalesce(getvariable('after')::VARCHAR, (
        SELECT max(label_set) FROM labels SEMI JOIN night USING (run_id)
        WHERE label_set <> coalesce(getvariable('before')::VARCHAR, 'run')
    ), error('the run has no other label set; jobs/label.py makes one')) AS after
),
known AS (SELECT DISTINCT label_set FROM labels SEMI JOIN night USING (run_id)),
checked AS (
    SELECT if(before NOT IN (FROM known), error('no label set ' || before), before) AS before,
        if(after NOT IN (FROM known), error('no label set ' || after), after) AS after
    FROM choice
),
own AS (SELECT image_id, category FROM scores SEMI JOIN night USING (run_id)),
paired AS (
    SELECT category, old.pred_label AS was, new.pred_label AS is_now, old.mask_area AS area, new.mask_area AS new_area,
        before, after
    FROM checked
    JOIN (FROM labels SEMI JOIN night USING (run_id)) AS old ON old.label_set = before
    JOIN (FROM labels SEMI JOIN night USING (run_id)) AS new ON new.label_set = after AND new.image_id = old.image_id
    JOIN own ON own.image_id = old.image_id
)
SELECT if(grouping(category) = 1, 'all', 'category') AS scope, category, any_value(before) AS before,
    any_value(after) AS after, count(*) AS images, count(*) FILTER (was = 1) AS flagged_before,
    count(*) FILTER (is_now = 1) AS flagged_after,
    count(*) FILTER (is_now = 1 AND was IS DISTINCT FROM 1) AS newly_flagged,
    count(*) FILTER (was = 1 AND is_now IS DISTINCT FROM 1) AS no_longer_flagged,
    count(*) FILTER (is_now IS NULL) AS unlabelled_after, sum(area)::BIGINT AS defect_px_before,
    sum(new_area)::BIGINT AS defect_px_after
FROM paired
GROUP BY GROUPING SETS ((), (category))
ORDER BY scope, category NULLS LAST;
