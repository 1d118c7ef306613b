-- Throughput: how fast each run was, where its time went, and what it ran on.
-- Seconds per stage are those of all workers together, in all attempts; wall_s and images_per_s are of the last attempt
-- alone, so mb_per_s is null where there were several.
SELECT committed_at, run_id, scored, images_per_s, wall_s, if(attempts = 1, bytes / 1e6 / wall_s, NULL) AS mb_per_s,
    (record::JSON -> 'seconds' ->> 'read')::DOUBLE AS read_s,
    (record::JSON -> 'seconds' ->> 'decode')::DOUBLE AS decode_s,
    (record::JSON -> 'seconds' ->> 'score')::DOUBLE AS score_s,
    (record::JSON -> 'seconds' ->> 'localize')::DOUBLE AS localize_s, attempts,
    record::JSON -> 'execution' ->> 'device' AS device, precision, model, version, git_commit
FROM runs
ORDER BY committed_at, run_id;
