-- Throughput: how fast each run was, where its time went, and what it ran on.
-- Seconds per stage are those of all workers together; wall_s is the job's own, of all its attempts.
SELECT committed_at, run_id, scored, images_per_s, wall_s, bytes / 1e6 / nullif(wall_s, 0) AS mb_per_s,
    (record::JSON -> 'seconds' ->> 'read')::DOUBLE AS read_s, (record::JSON -> 'seconds' ->> 'decode')::DOUBLE AS decode_s,
    (record::JSON -> 'seconds' ->> 'score')::DOUBLE AS score_s,
    (record::JSON -> 'seconds' ->> 'localize')::DOUBLE AS localize_s, attempts,
    record::JSON -> 'execution' ->> 'device' AS device, precision, model, version, git_commit
FROM runs
ORDER BY committed_at, run_id;
