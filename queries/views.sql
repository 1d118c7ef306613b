-- Committed runs as views, for DuckDB's own shell and every client of DuckDB from 1.5 on, without this package:
--
--     SET VARIABLE output = 'out';
--     .read queries/views.sql
--
-- runs, scores, quarantine, labels: the same columns as of pipeline.open_views. They hold what the records in runs/
-- named when this file was read; read it again to see newer runs. Parts that no record names, such as those of a run
-- that goes on or was stopped, are never read.
--
-- output     a folder; or a place in a store, with DuckDB's httpfs or azure extension and a secret for it
-- label_set  whose labels and masks `scores` has, null in runs that lack it; the runs' own where it is not set

SET VARIABLE cops_root = rtrim(coalesce(
    getvariable('output')::VARCHAR, error('no output: SET VARIABLE output = ''out''; then read this file again')
), '/');

-- DuckDB takes [, * and ? in names of files for patterns, and each of them in brackets for itself.
CREATE OR REPLACE TEMP MACRO cops_as_named(path) AS regexp_replace(path, '([*?\[])', '[\1]', 'g');

-- The records of runs and of label sets. Names that begin with a dot are of files that are being written.
SET VARIABLE cops_run_records = (
    SELECT list(file ORDER BY file) FROM glob(cops_as_named(getvariable('cops_root')) || '/runs/*.json')
    WHERE NOT starts_with(parse_filename(file), '.')
);
SET VARIABLE cops_label_records = (
    SELECT list(file ORDER BY file) FROM glob(cops_as_named(getvariable('cops_root')) || '/label_sets/*/*.json')
    WHERE NOT starts_with(parse_filename(file), '.')
);
SET VARIABLE cops_run_records = coalesce(getvariable('cops_run_records'), error(
    getvariable('cops_root') || ': no committed run; expected runs/<run_id>.json'
));

CREATE OR REPLACE TEMP TABLE cops_records AS
SELECT place, parse_filename(place, true) AS name, record ->> 'format' AS format, record ->> 'run_id' AS run_id,
    record ->> 'label_set' AS label_set, record ->> 'committed_at' AS committed_at,
    record ->> 'run_committed_at' AS run_committed_at,
    from_json(record -> 'files', '[{"table": "VARCHAR", "path": "VARCHAR", "rows": "BIGINT", "scores": "VARCHAR"}]')
        AS files,
    record
FROM (
    SELECT filename AS place,
        if(json_valid(content), content, error(filename || ': damaged; expected JSON'))::JSON AS record
    FROM read_text(list_transform(
        getvariable('cops_run_records') || coalesce(getvariable('cops_label_records'), []),
        lambda file: cops_as_named(file)
    ))
);

-- A record is data, and what it names is read: nothing may lead out of the folders of its run.
CREATE OR REPLACE TEMP MACRO cops_are_inside(files, folders) AS coalesce(list_bool_and(list_transform(
    files, lambda file: coalesce(
        list_contains(folders, parse_dirpath(file.path))
        AND regexp_full_match(parse_filename(file.path), '[A-Za-z0-9_-][A-Za-z0-9._-]*\.parquet'), false
    )
)), true);
CREATE OR REPLACE TEMP TABLE cops_runs AS
SELECT * EXCLUDE (checked) FROM (
    SELECT *, CASE
        WHEN format IS DISTINCT FROM 'cops-run/1' THEN error(place || ': expected a record of format cops-run/1')
        WHEN run_id IS DISTINCT FROM name THEN error(place || ': expected the record of run ' || name)
        WHEN committed_at IS NULL OR files IS NULL THEN error(place || ': lacks when it was committed, or its files')
        WHEN NOT cops_are_inside(files, ['scores/run_id=' || name, 'quarantine/run_id=' || name])
            OR list_contains(list_transform(files, lambda file: starts_with(file.path, file."table" || '/')), false)
            OR length(files) <> length(list_distinct(list_transform(files, lambda file: file.path)))
            THEN error(concat(
                place, ': expected each file once, as scores/run_id=', name, '/<name>.parquet or quarantine/…'))
        ELSE true
    END AS checked
    FROM cops_records WHERE list_contains(getvariable('cops_run_records'), place)
) WHERE checked;

-- Label sets of runs that are there. Those of a run that was discarded since, and scored anew under its id, do not
-- count.
CREATE OR REPLACE TEMP TABLE cops_label_sets AS
SELECT run_id, label_set, files FROM (
    SELECT run.run_id, made.label_set, made.files, CASE
        WHEN made.format IS DISTINCT FROM 'cops-labels/1'
            THEN error(made.place || ': expected a record of format cops-labels/1')
        WHEN made.run_id IS DISTINCT FROM run.run_id OR made.label_set IS DISTINCT FROM made.name
            THEN error(made.place || ': expected the labels ' || made.name || ' of run ' || run.run_id)
        WHEN NOT cops_are_inside(made.files, ['labels/run_id=' || run.run_id || '/label_set=' || made.name])
            OR list_transform(made.files, lambda file: file.scores) IS DISTINCT FROM list_transform(
                list_filter(run.files, lambda file: file."table" = 'scores'), lambda file: file.path)
            THEN error(made.place || ': expected one file for each part of the run''s scores')
        ELSE true
    END AS checked
    FROM cops_records AS made
    JOIN cops_runs AS run
    ON run.run_id = parse_filename(parse_dirpath(made.place)) AND run.committed_at = made.run_committed_at
    WHERE list_contains(getvariable('cops_label_records'), made.place)
) WHERE checked;

-- Exactly these files are read, by name: no pattern, no folder.
CREATE OR REPLACE TEMP MACRO cops_paths(files, wanted) AS list_transform(
    list_filter(files, lambda file: wanted IS NULL OR file."table" = wanted),
    lambda file: cops_as_named(getvariable('cops_root') || '/' || file.path)
);
SET VARIABLE cops_scores = (
    SELECT flatten(list(cops_paths(files, 'scores') ORDER BY committed_at, run_id)) FROM cops_runs
);
SET VARIABLE cops_quarantine = (
    SELECT flatten(list(cops_paths(files, 'quarantine') ORDER BY committed_at, run_id)) FROM cops_runs
);
SET VARIABLE cops_labels = (
    SELECT coalesce(flatten(list(cops_paths(files, NULL) ORDER BY run_id, label_set)), []) FROM cops_label_sets
);

-- Types and order of the columns, whatever the files have: cops_no_… are empty. A run's own columns come after them.
CREATE OR REPLACE TEMP VIEW cops_no_scores AS
SELECT NULL::VARCHAR AS image_id, NULL::VARCHAR AS image_uri, NULL::VARCHAR AS shard, NULL::VARCHAR AS content_hash,
    NULL::VARCHAR AS category, NULL::INTEGER AS width, NULL::INTEGER AS height, NULL::VARCHAR AS format,
    NULL::VARCHAR AS mode, NULL::BIGINT AS num_bytes, NULL::FLOAT AS pred_score, NULL::FLOAT AS class_score,
    NULL::FLOAT AS patch_score_max, NULL::FLOAT AS image_threshold, NULL::TINYINT AS pred_label,
    NULL::BLOB AS patch_scores, NULL::SMALLINT[] AS map_size, NULL::FLOAT AS pixel_threshold,
    NULL::STRUCT(size INTEGER[], counts VARCHAR) AS pred_mask, NULL::BIGINT AS mask_area,
    NULL::STRUCT(x INTEGER, y INTEGER, width INTEGER, height INTEGER, area INTEGER, peak_score FLOAT)[] AS regions,
    NULL::VARCHAR AS model_id, NULL::TIMESTAMPTZ AS scored_at
WHERE false;
CREATE OR REPLACE TEMP VIEW cops_no_quarantine AS
SELECT NULL::VARCHAR AS image_id, NULL::VARCHAR AS image_uri, NULL::VARCHAR AS shard, NULL::VARCHAR AS stage,
    NULL::VARCHAR AS reason, NULL::VARCHAR AS message, NULL::BIGINT AS num_bytes, NULL::VARCHAR AS content_hash,
    NULL::TIMESTAMPTZ AS at
WHERE false;
CREATE OR REPLACE TEMP VIEW cops_no_labels AS
SELECT image_id, image_threshold, pred_label, pixel_threshold, pred_mask, mask_area, regions FROM cops_no_scores;

-- A reader of no files would be an error: then the empty one alone.
CREATE OR REPLACE TEMP MACRO cops_reading(files, empty) AS concat(
    'SELECT * EXCLUDE (__file), regexp_extract(__file, ''/run_id=([^/]+)/(label_set=[^/]+/)?[^/]+$'', 1) AS run_id, ',
    'regexp_extract(__file, ''/label_set=([^/]+)/[^/]+$'', 1) AS label_set ',
    'FROM (SELECT *, NULL::VARCHAR AS __file FROM ', empty, if(
        length(getvariable(files)) = 0, '',
        ' UNION ALL BY NAME FROM read_parquet(getvariable(''' || files || '''), union_by_name = true, '
        || 'hive_partitioning = false, filename = ''__file'')'
    ), ')'
);
SET VARIABLE cops_scores_sql = cops_reading('cops_scores', 'cops_no_scores');
SET VARIABLE cops_quarantine_sql = cops_reading('cops_quarantine', 'cops_no_quarantine');
SET VARIABLE cops_labels_sql = cops_reading('cops_labels', 'cops_no_labels');

CREATE OR REPLACE TEMP VIEW cops_own_scores AS SELECT * EXCLUDE (label_set) FROM query(getvariable('cops_scores_sql'));
CREATE OR REPLACE TEMP VIEW quarantine AS SELECT * EXCLUDE (label_set) FROM query(getvariable('cops_quarantine_sql'));
CREATE OR REPLACE TEMP VIEW cops_made_labels AS FROM query(getvariable('cops_labels_sql'));
CREATE OR REPLACE TEMP VIEW labels AS
SELECT run_id, 'run' AS label_set, image_id, image_threshold, pred_label, pixel_threshold, pred_mask, mask_area, regions
FROM cops_own_scores
UNION ALL
SELECT run_id, label_set, image_id, image_threshold, pred_label, pixel_threshold, pred_mask, mask_area, regions
FROM cops_made_labels;

SET VARIABLE cops_label_set = coalesce(getvariable('label_set')::VARCHAR, 'run');
SET VARIABLE cops_labelled_sql = (SELECT CASE
    WHEN getvariable('cops_label_set') = 'run' THEN 'FROM cops_own_scores'
    WHEN getvariable('cops_label_set') NOT IN (SELECT label_set FROM cops_label_sets)
        THEN error('no run has a label set ' || getvariable('cops_label_set'))
    ELSE 'SELECT own.* REPLACE (made.image_threshold AS image_threshold, made.pred_label AS pred_label,
            made.pixel_threshold AS pixel_threshold, made.pred_mask AS pred_mask, made.mask_area AS mask_area,
            made.regions AS regions)
        FROM cops_own_scores AS own LEFT JOIN (
            FROM cops_made_labels WHERE label_set = getvariable(''cops_label_set'')
        ) AS made USING (run_id, image_id)'
END);
CREATE OR REPLACE TEMP VIEW scores AS FROM query(getvariable('cops_labelled_sql'));

CREATE OR REPLACE TEMP VIEW runs AS
SELECT run_id, committed_at::TIMESTAMPTZ AS committed_at, record -> 'model' ->> 'name' AS model,
    record ->> 'model_id' AS model_id,
    coalesce(record -> 'model' ->> 'precision', record -> 'config' ->> 'precision') AS precision,
    (record -> 'counts' ->> 'planned')::BIGINT AS planned, (record -> 'counts' ->> 'scored')::BIGINT AS scored,
    (record -> 'counts' ->> 'quarantined')::BIGINT AS quarantined,
    (record -> 'counts' ->> 'skipped')::BIGINT AS skipped, (record -> 'counts' ->> 'bytes')::BIGINT AS bytes,
    (record ->> 'images_per_s')::DOUBLE AS images_per_s, (record -> 'seconds' ->> 'wall')::DOUBLE AS wall_s,
    (record ->> 'attempts')::BIGINT AS attempts, record ->> 'git_commit' AS git_commit,
    record -> 'versions' ->> 'cops-inspection' AS version, record::VARCHAR AS record
FROM cops_runs;
