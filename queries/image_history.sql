-- Image history: all that was ever said of one image, in every run, under every label set, and in quarantine.
--   image   its image_id, image_uri or content_hash; the highest score of the run committed last
WITH last AS (SELECT max_by(run_id, (committed_at, run_id)) AS run_id FROM runs),
wanted AS (
    SELECT coalesce(getvariable('image')::VARCHAR, (
        SELECT image_id FROM scores SEMI JOIN last USING (run_id) ORDER BY pred_score DESC, image_id LIMIT 1
    )) AS image
),
scored AS (
    SELECT run_id, image_id, pred_score, content_hash, image_uri
    FROM scores WHERE (SELECT image FROM wanted) IN (image_id, image_uri, content_hash)
),
told AS (
    SELECT run_id, 'scored' AS event, label_set, pred_score, image_threshold, pred_label, mask_area, NULL AS reason,
        NULL AS message, content_hash, image_uri
    FROM scored JOIN labels USING (run_id, image_id)
    UNION ALL
    SELECT run_id, 'quarantined', NULL, NULL, NULL, NULL, NULL, reason, message, content_hash, image_uri
    FROM quarantine WHERE (SELECT image FROM wanted) IN (image_id, image_uri, content_hash)
)
SELECT committed_at, run_id, event, label_set, pred_score, image_threshold, pred_label, mask_area, reason, message,
    model_id, content_hash, image_uri
FROM told JOIN runs USING (run_id)
ORDER BY committed_at, run_id, label_set;
